"""How compressible weights are: PQ Index, Gini index, and how many weights or whole units may be removed.

Diao et al. 2023, "Pruning Deep Neural Networks from a Sparsity Perspective": Definition 1 (the index), Theorem 2 (the
bound) and Algorithm 1 (from the bound to a number of weights).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.analysis.layers import Layer
from slimnet.common.errors import BadInput
from slimnet.methods.base import Scores

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Slack in rounding numbers of weights: 0.9 * 10 is 9.000000000000002, and means 9.
_SLACK = 1e-9


@dataclass(frozen=True)
class Rule:
    """From the compressibility of a vector of magnitudes to how many of them are removed.

    Attributes:
        p, q: The norms of the index, 0 < p <= 1 <= q and p < q; (0.5, 1) and (1, 2) are the published pairs.
        eta: The slack of the bound, at least 0; a larger one prunes more.
        gamma: The factor by which to scale what the bound allows; one above 1 prunes more.
        beta: The largest fraction to remove at once.
        ceil: Whether to round the bound up first, as the published code does.
    """

    p: float = 1.0
    q: float = 2.0
    eta: float = 0.0
    gamma: float = 1.0
    beta: float = 0.9
    ceil: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.p <= 1 <= self.q and self.p < self.q < np.inf):
            raise BadInput(f"p={self.p:g}, q={self.q:g}: the PQ index needs 0 < p <= 1 <= q and p < q")
        if not (self.eta >= 0 and self.gamma > 0 and 0 < self.beta < 1):
            raise BadInput(
                f"eta={self.eta:g}, gamma={self.gamma:g}, beta={self.beta:g}: "
                "eta must not be negative, gamma must be positive, and beta between 0 and 1"
            )

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule that `--ratio auto?gamma=3&beta=0.5` asks for. Raises BadInput for what it cannot be.

        The bound is not rounded up unless asked for: of a few dozen units that would often leave none to remove.
        """
        known: dict[str, Any] = {f.name: f.type for f in fields(cls)}
        given: dict[str, Any] = {"ceil": False}
        for item in filter(None, text.partition("?")[2].split("&")):
            name, _, value = item.partition("=")
            try:
                given[name] = {"true": True, "false": False}[value] if known[name] == "bool" else float(value)
            except (KeyError, ValueError):
                raise BadInput(
                    f"`ratio` {text}: {item} is not understood; it takes p, q, eta, gamma and beta (numbers) and ceil "
                    "(true or false), as in auto?gamma=3&beta=0.5"
                ) from None
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


#: The published pairs.
PAIRS = ((0.5, 1.0), (1.0, 2.0))


def pq_index(w: npt.ArrayLike, p: float, q: float, mask: npt.ArrayLike | None = None) -> Array:
    """I = 1 - d^(1/q - 1/p) |w|_p / |w|_q of each row: 0 where all are equal, larger where few hold most.

    Args:
        w: The weights, [..., d].
        p, q: The norms, 0 < p <= 1 <= q and p < q.
        mask: True where a weight counts, of the shape of w; d is the number of those. Zeros that are not masked count.

    Returns:
        [...]; 0 for a row of zeros, for which the index is undefined, and for one without weights.
    """
    x, d = _magnitudes(w, mask)
    largest = x.max(axis=-1, keepdims=True, initial=0.0)
    x = x / np.where(largest > 0, largest, 1.0)  # small p would overflow
    high = (x**q).sum(axis=-1, dtype=np.float64) ** (1 / q)
    low = (x**p).sum(axis=-1, dtype=np.float64) ** (1 / p)
    some = high > 0
    index = 1 - np.maximum(d, 1) ** (1 / q - 1 / p) * low / np.where(some, high, 1.0)
    return np.asarray(np.where(some, np.maximum(index, 0), 0.0))  # rounding may leave it just below


def gini(w: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Array:
    """Gini index sum_i (2i - n - 1) w_(i) / (n sum w) of the magnitudes of each row, i from 1 in ascending order.

    Arguments and zeros as for `pq_index`.
    """
    x, d = _magnitudes(w, mask)
    x = np.sort(x, axis=-1)  # what is masked is 0, and comes first
    n, total = x.shape[-1], x.sum(axis=-1, dtype=np.float64)
    weighted = x @ np.arange(1.0, n + 1) - (n - d) * total
    return np.asarray((2 * weighted - (d + 1) * total) / np.where(total > 0, d * total, 1.0))


def bound(index: npt.ArrayLike, d: npt.ArrayLike, rule: Rule) -> Array:
    """How many of d weights must be kept: r = d (1 + eta)^(-q/(q-p)) (1 - I)^(pq/(q-p)) (Theorem 2)."""
    p, q = rule.p, rule.q
    slack = (1 + rule.eta) ** (-q / (q - p))
    return np.asarray(d, float) * slack * (1 - np.asarray(index)) ** (p * q / (q - p))


def allowed(index: npt.ArrayLike, d: npt.ArrayLike, rule: Rule) -> Counts:
    """How many of d weights may be removed: floor(d min(gamma (1 - r/d), beta)) (Algorithm 1)."""
    sizes = np.asarray(d)
    r = bound(index, sizes, rule)
    if rule.ceil:
        r = np.ceil(r - _SLACK * np.maximum(sizes, 1))
    count = np.floor(np.minimum(rule.gamma * (sizes - r), rule.beta * sizes) + _SLACK)
    return np.asarray(np.maximum(count, 0)).astype(np.int64)


def prunable(w: npt.ArrayLike, rule: Rule, mask: npt.ArrayLike | None = None) -> Counts:
    """How many of the weights of each row of [..., d] may be removed."""
    _, d = _magnitudes(w, mask)
    return allowed(pq_index(w, rule.p, rule.q, mask), d, rule)


def _magnitudes(w: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[npt.NDArray[Any], Counts]:
    """Absolute values, 0 where masked, in float32 if they come so, and how many of each row count."""
    x = np.asarray(w)
    x = np.abs(x if x.dtype == np.float32 else x.astype(np.float64))
    if mask is None:
        return x, np.full(x.shape[:-1], x.shape[-1])
    kept = np.asarray(mask, bool)
    return np.where(kept, x, 0.0), kept.sum(axis=-1)


# -- a network -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """The index of a vector for one pair (p, q), the entries it must keep by the bound, and the ratio it may lose."""

    p: float
    q: float
    index: float
    keep: float
    ratio: float


@dataclass(frozen=True)
class Sparsity:
    """Compressibility of one vector of magnitudes.

    Attributes:
        size: The number of entries.
        indices: The index and its bound for each published pair (p, q).
        gini: The Gini index.
    """

    size: int
    indices: tuple[Index, ...]
    gini: float


@dataclass(frozen=True)
class Spread:
    """Compressibility of the neurons of a layer, each a vector: quantiles 0, 1/4, 1/2, 3/4 and 1 over the neurons.

    `indices` has one row of quantiles for each published pair (p, q).
    """

    neurons: int
    indices: tuple[tuple[float, ...], ...]
    gini: tuple[float, ...]


@dataclass(frozen=True)
class LayerSparsity:
    """Compressibility of the weights of a layer as one vector, and of each of its neurons."""

    name: str
    layer: Sparsity
    neurons: Spread


@dataclass(frozen=True)
class Compressibility:
    """Compressibility of a network: its weights together, layer by layer, and the norms of the units of every group."""

    whole: Sparsity
    layers: tuple[LayerSparsity, ...]
    units: Mapping[str, Sparsity]
    all_units: Sparsity | None


def measure(values: npt.ArrayLike) -> Sparsity:
    """Compressibility of one vector of magnitudes [d]."""
    w = np.asarray(values)
    found = []
    for p, q in PAIRS:
        rule = Rule(p, q)
        index = float(pq_index(w, p, q))
        ratio = int(allowed(index, w.size, rule)) / max(w.size, 1)
        found.append(Index(p, q, index, float(bound(index, w.size, rule)), ratio))
    return Sparsity(w.size, tuple(found), float(gini(w)))


def compressibility(layers: Sequence[Layer], names: Sequence[str], norms: Scores) -> Compressibility:
    """Measure a network.

    Args:
        layers: The layers of the network, with their weights.
        names: The names of the groups of removable units.
        norms: The norms of those units, one vector [units] per group.
    """
    units = {name: measure(values) for name, values in zip(names, norms, strict=True)}
    whole = np.concatenate([layer.filters.ravel() for layer in layers]) if layers else np.zeros(0)
    together = measure(np.concatenate(norms)) if units else None
    return Compressibility(measure(whole), tuple(_layer(layer) for layer in layers), units, together)


def _layer(layer: Layer) -> LayerSparsity:
    rows = layer.filters
    indices = tuple(_quantiles(pq_index(rows, p, q)) for p, q in PAIRS)
    return LayerSparsity(layer.name, measure(rows.ravel()), Spread(len(rows), indices, _quantiles(gini(rows))))


def _quantiles(values: Array) -> tuple[float, ...]:
    return tuple(np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist())
