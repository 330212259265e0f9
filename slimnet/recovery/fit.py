"""Least squares from sums: a weight that gives what is wanted from what is there, kept near the one it was.

With rows f of features and t of targets, the sums H = f'f, C = f't and t't are all that a fit needs; they are taken in
double precision, batch by batch, so that memory does not grow with the number of inputs. The fit minimises

    |t - W f - b|^2 + ridge |W - W0|^2,

and of several ridges the one is taken that errs least on rows that were held back; so is W0 itself, where nothing is
better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve

Doubles = npt.NDArray[np.float64]
#: The ridges that are tried, in parts of the mean square of a feature.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Sums:
    """Running sums over rows of features and targets, for each group; the last feature is the constant one."""

    def __init__(self, groups: int, features: int, outputs: int) -> None:
        self.gram = np.zeros((groups, features + 1, features + 1))
        self.cross = np.zeros((groups, features + 1, outputs))
        self.square = np.zeros(groups)
        self.rows = 0

    def add(self, features: npt.NDArray[np.generic], targets: npt.NDArray[np.generic]) -> None:
        """Add rows: features [groups, rows, features] and targets [groups, rows, outputs]."""
        ones = np.ones((*features.shape[:2], 1))
        f = np.concatenate([features.astype(np.float64), ones], axis=2)
        t = targets.astype(np.float64)
        turned = f.transpose(0, 2, 1)
        self.gram += turned @ f
        self.cross += turned @ t
        self.square += np.einsum("gpo,gpo->g", t, t)
        self.rows += features.shape[1]

    def error(self, weight: Doubles, bias: Doubles) -> float:
        """The sum of squared differences of a fit: weight [groups, outputs, features], bias [groups, outputs]."""
        w = np.concatenate([weight, bias[..., None]], axis=2)
        quadratic = np.einsum("gof,gof->", w @ self.gram, w)
        return float(quadratic - 2 * np.einsum("gof,gfo->", w, self.cross) + self.square.sum())

    @property
    def spread(self) -> float:
        """The sum of squares of the targets around their means."""
        means = self.cross[:, -1] / max(1, self.rows)
        return float(self.square.sum() - self.rows * np.square(means).sum())


@dataclass(frozen=True)
class Fit:
    """A fitted weight.

    Attributes:
        weight: The weight, float64 [groups, outputs, features].
        bias: The constant, float64 [groups, outputs].
        ridge: The ridge that was taken, in parts of the mean square of a feature; infinite where nothing was better
            than what was there.
        before, after: The squared error on rows held back, relative to the spread of the targets.
    """

    weight: Doubles
    bias: Doubles
    ridge: float
    before: float
    after: float


def fit(
    sums: Sums, held: Sums, weight: Doubles, bias: Doubles, free: bool = True, ridges: Sequence[float] = RIDGES
) -> Fit:
    """Fit a weight, and choose the ridge on rows that were held back.

    Args:
        sums: The sums to fit to.
        held: The sums of rows that were held back.
        weight: The weight as it is, [groups, outputs, features].
        bias: The constant as it is, [groups, outputs].
        free: Whether the constant may change.
        ridges: The ridges that are tried, in parts of the mean square of a feature.
    """
    scale = max(held.spread, 1e-300)
    before = held.error(weight, bias)
    best = Fit(weight, bias, np.inf, before / scale, before / scale)
    gram, cross, means = _centred(sums, free)
    wanted = cross - gram @ weight.transpose(0, 2, 1)
    if not free:
        wanted -= sums.gram[:, :-1, -1:] @ bias[:, None, :]
    size = np.maximum(np.trace(sums.gram[:, :-1, :-1], axis1=1, axis2=2) / max(1, gram.shape[1]), 1e-300)
    for ridge in ridges:
        tried = weight + _solved(gram, wanted, ridge * size).transpose(0, 2, 1)
        offset = means[1] - np.einsum("gof,gf->go", tried, means[0]) if free else bias
        error = held.error(tried, offset) / scale
        if error < best.after:
            best = Fit(tried, offset, ridge, before / scale, error)
    return best


def _centred(sums: Sums, free: bool) -> tuple[Doubles, Doubles, tuple[Doubles, Doubles]]:
    """The sums around the means where a constant takes those, and the means of features and targets."""
    n = max(1, sums.rows)
    f, t = sums.gram[:, :-1, -1] / n, sums.cross[:, -1] / n
    gram, cross = sums.gram[:, :-1, :-1], sums.cross[:, :-1]
    if free:
        gram = gram - n * f[:, :, None] * f[:, None, :]
        cross = cross - n * f[:, :, None] * t[:, None, :]
    return gram, cross, (f, t)


def _solved(gram: Doubles, wanted: Doubles, ridge: Doubles) -> Doubles:
    found = np.zeros_like(wanted)
    for g in range(len(gram)):
        regular = gram[g] + ridge[g] * np.eye(gram.shape[1])
        try:
            found[g] = cho_solve(cho_factor(regular, lower=True, check_finite=False), wanted[g], check_finite=False)
        except LinAlgError:
            found[g] = np.linalg.lstsq(regular, wanted[g], rcond=None)[0]
    return found
