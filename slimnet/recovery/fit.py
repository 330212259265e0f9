"""Least squares: a weight that gives what is wanted from what is there, kept near the one it was.

With rows f of what the slim network's layer reads and t of what the dense one's gives, the fit minimises

    |act(t) - act(W f + b + o)|^2 + ridge |W - W0|^2,

where o is what else goes into the same sum, and act the saturation behind it, such as a Relu; there is none in most
layers. Without one this is ridge regression. With one, what is saturated on both sides is no error: the targets there
are moved to what the fit gives, and it is fitted again (majorisation, as in de Leeuw 1994). Of several ridges the one
is taken that errs least on rows that were held back; so is W0 itself, where nothing is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
#: The ridges that are tried, in parts of the mean square of a feature.
RIDGES = (1e-8, 1e-4, 1e-2, 1e-1, 1.0)
#: How often targets behind a saturation are moved, and the multiply-adds that all of that may take.
MOVES, MOVING = 10, 2e11
#: Rows that are taken to double precision at a time.
_BLOCK = 4096
#: What errs by no more than this part of the spread of the targets is left as it is.
_EXACT = 1e-9


@dataclass(frozen=True)
class Rows:
    """Rows to fit to.

    Attributes:
        features: What the weight is multiplied with, [groups, rows, features].
        targets: What is to be met, [groups, rows, outputs].
        others: What is added to it, [groups, rows, outputs]; None where nothing is.
    """

    features: Array
    targets: Array
    others: Array | None = None

    @classmethod
    def of(cls, parts: Sequence[Rows]) -> Rows:
        """All rows together."""
        others = [part.others for part in parts if part.others is not None]
        return cls(
            np.concatenate([part.features for part in parts], axis=1),
            np.concatenate([part.targets for part in parts], axis=1),
            np.concatenate(others, axis=1) if others else None,
        )

    @property
    def wanted(self) -> Array:
        """What the weight itself is to give."""
        return self.targets if self.others is None else self.targets - self.others


@dataclass(frozen=True)
class Saturation:
    """What follows and hides differences: a Relu is (0, inf), a Relu6 (0, 6)."""

    low: float = -np.inf
    high: float = np.inf

    def __bool__(self) -> bool:
        return self.low > -np.inf or self.high < np.inf

    def of(self, values: Array) -> Array:
        """What comes out."""
        return np.clip(values, self.low, self.high) if self else values

    def moved(self, targets: Array, given: Array) -> Array:
        """The targets, where they are saturated moved to what is given as far as that is saturated, too."""
        low = np.where(targets <= self.low, np.minimum(given, self.low), targets)
        return np.where(targets >= self.high, np.maximum(given, self.high), low)


NONE = Saturation()


@dataclass(frozen=True)
class Fit:
    """A fitted weight.

    Attributes:
        weight: The weight, float64 [groups, outputs, features].
        bias: The constant, float64 [groups, outputs].
        ridge: The ridge that was taken, in parts of the mean square of a feature; None where nothing was better than
            what was there.
        before, after: The squared error on rows held back, relative to the spread of what is to be met.
    """

    weight: Doubles
    bias: Doubles
    ridge: float | None
    before: float
    after: float


def fit(
    rows: Rows,
    held: Rows,
    weight: Doubles,
    bias: Doubles,
    free: bool = True,
    saturation: Saturation = NONE,
    ridges: Sequence[float] = RIDGES,
) -> Fit:
    """Fit a weight, and choose the ridge on rows that were held back.

    Args:
        rows: The rows to fit to.
        held: The rows that were held back.
        weight: The weight as it is, [groups, outputs, features].
        bias: The constant as it is, [groups, outputs].
        free: Whether the constant may change.
        saturation: What follows.
        ridges: The ridges that are tried, in parts of the mean square of a feature.
    """
    wanted = saturation.of(held.targets)
    spread = max(float(np.square(wanted - wanted.mean(axis=1, keepdims=True), dtype=np.float64).sum()), 1e-300)

    def error(weight: Doubles, bias: Doubles) -> float:
        apart = saturation.of(_given(held, weight, bias)) - wanted
        return float(np.square(apart, dtype=np.float64).sum()) / spread

    before = error(weight, bias)
    best = Fit(weight, bias, None, before, before)
    if before <= _EXACT or not np.isfinite(before):
        return best
    normal = _Normal(rows, weight, bias, free)
    for ridge in ridges:
        tried = normal.solved(ridge)
        if (now := error(*tried)) < best.after:
            best = Fit(*tried, ridge, before, now)
    if not saturation or best.ridge is None:
        return best
    weight, bias = best.weight, best.bias
    for _ in range(min(MOVES, int(MOVING / max(1, 4 * rows.features.size * weight.shape[1])))):
        targets = saturation.moved(rows.targets, _given(rows, weight, bias))
        weight, bias = normal.solved(best.ridge, targets - rows.targets)
        if (now := error(weight, bias)) < best.after:
            best = replace(best, weight=weight, bias=bias, after=now)
    return best


def _given(rows: Rows, weight: Doubles, bias: Doubles) -> Array:
    """What a weight gives, with what is added to it."""
    kind = rows.features.dtype
    found: Array = rows.features @ weight.transpose(0, 2, 1).astype(kind) + bias[:, None].astype(kind)
    return found if rows.others is None else found + rows.others


class _Normal:
    """The normal equations of some rows, for any ridge.

    Where there are fewer rows than features their dual is solved, a matrix [rows, rows]: it gives the same weight.
    """

    def __init__(self, rows: Rows, weight: Doubles, bias: Doubles, free: bool) -> None:
        self._rows, self._weight, self._free = rows, weight, free
        groups, count, features = rows.features.shape
        self._mean = rows.features.mean(axis=1, dtype=np.float64) if free else np.zeros((groups, features))
        wanted = rows.wanted
        self._level = wanted.mean(axis=1, dtype=np.float64) if free else bias
        turned = weight.transpose(0, 2, 1)
        self._dual = count < features
        if self._dual:
            whole = self._centred(slice(None))
            self._gram = whole @ whole.transpose(0, 2, 1)
            self._missing = wanted - self._level[:, None] - whole @ turned
        else:
            self._gram = self._summed(self._centred)
            self._missing = self._summed(lambda part: wanted[:, part] - self._level[:, None]) - self._gram @ turned
        self._size = np.maximum(np.trace(self._gram, axis1=1, axis2=2) / features, 1e-300)
        self._inverse: tuple[float | None, Doubles] = None, self._gram

    def solved(self, ridge: float, moved: Array | None = None) -> tuple[Doubles, Doubles]:
        """The weight and the constant that meet the targets best, near the weight there was.

        Args:
            ridge: The ridge, in parts of the mean square of a feature.
            moved: What is added to the targets [groups, rows, outputs].
        """
        missing, level = self._missing, self._level
        if moved is not None:
            shift = moved.mean(axis=1, dtype=np.float64) if self._free else np.zeros_like(level)
            level = level + shift
            # What moves is an estimate: single precision is enough for its sums.
            missing = missing + ((moved - shift[:, None]) if self._dual else self._correlated(moved, shift))
        change = self._inverted(ridge) @ missing
        if self._dual:
            change = self._centred(slice(None)).transpose(0, 2, 1) @ change
        weight = self._weight + change.transpose(0, 2, 1)
        return weight, level - np.einsum("gof,gf->go", weight, self._mean) if self._free else level

    def _correlated(self, moved: Array, shift: Doubles) -> Doubles:
        count = moved.shape[1]
        found = (self._rows.features.transpose(0, 2, 1) @ moved).astype(np.float64)
        return np.asarray(found - count * self._mean[:, :, None] * shift[:, None, :])

    def _inverted(self, ridge: float) -> Doubles:
        if self._inverse[0] != ridge:
            regular = self._gram + (ridge * self._size)[:, None, None] * np.eye(self._gram.shape[1])
            try:
                self._inverse = ridge, np.linalg.inv(regular)
            except np.linalg.LinAlgError:
                self._inverse = ridge, np.linalg.pinv(regular, hermitian=True)
        return self._inverse[1]

    def _centred(self, part: slice) -> Doubles:
        return self._rows.features[:, part] - self._mean[:, None]

    def _summed(self, other: Callable[[slice], Array]) -> Doubles:
        """The sum over all rows of features times something else, in double precision."""
        total: Any = 0.0
        for start in range(0, self._rows.features.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            total = total + self._centred(part).transpose(0, 2, 1) @ other(part)
        return np.asarray(total)
