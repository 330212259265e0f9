"""Criteria that rank units by their weights alone, in numpy.

The filter F_j of unit j is the concatenation of all its OUT slices: the rows of one convolution, or those of every
producer of a residual stream. Definitions: Huang et al. 2021, "Rethinking the Pruning Criteria for Convolutional
Neural Network", Table 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dsyrk

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Use
from slimnet.graph.units import Group, Member, Role
from slimnet.methods.base import Method, Params, Scores, by_mean, hyperparameters, scored
from slimnet.methods.lookup import create, find

Array = npt.NDArray[np.float64]

#: Elements worked on at a time by a reduction: what fits the second-level cache.
_CHUNK = 1 << 17
#: Columns of filters turned into float64 at a time: enough to keep the matrix product busy.
_COLUMNS = 2048
#: Distances below this fraction of the largest one are rounding noise of a Gram matrix in float64.
_NOISE = 1e-7


def score(method: str, params: Params, groups: Sequence[Group], seed: int = 0) -> Scores:
    """Rank the units of every group by a method's default settings.

    Args:
        method: The name of a method, such as "l1", or FILE.py:CLASS.
        params: The parameters by name.
        groups: The groups of units, as the tracer gives them.
        seed: The seed of the methods that draw numbers.

    Returns:
        One float64 vector [units] per group, low means prune. A vector of NaN says that the method has nothing to
        rank this group by; it stays dense (see `unranked`).

    Raises:
        BadInput: The method is not known, weights are not finite, or a method that ranks by batch norms finds none.
    """
    options = {"seed": seed} if "seed" in hyperparameters(find(method)) else {}
    return scored(create(method, **options), params, groups)


@dataclass(frozen=True)
class L1(Method):
    """Sum of the absolute weights of a filter: Li et al. 2017."""

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return _filter_sums(params, groups, np.absolute)


@dataclass(frozen=True)
class L2(Method):
    """Euclidean norm of a filter."""

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return [np.sqrt(squares) for squares in _filter_sums(params, groups, np.square)]


@dataclass(frozen=True)
class LargestFirst(Method):
    """The filters with the largest l1 norms go first: a baseline that shows what a criterion achieves."""

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return [-norms for norms in L1().score(params, groups)]

    def normalise(self, groups: Sequence[Group], scores: Sequence[Array]) -> Scores:
        """Relative to the mean norm of the group."""
        return [-norms for norms in by_mean(groups, [-values for values in scores])]


@dataclass(frozen=True)
class GeometricMedian(Method):
    """Sum of the distances from a filter to all others of its group: FPGM, He et al. 2019.

    Needs n x n float64 for a group of n units.
    """

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return [_distances(params, group).sum(axis=1) for group in groups]


@dataclass(frozen=True)
class Fermat(Method):
    """Distance from a filter to the Fermat point (geometric median) of its group.

    Needs n x n float64 for a group of n units.
    """

    tolerance: float = 1e-7
    iterations: int = 1000

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return [_to_fermat_point(_distances(params, g), self.tolerance, self.iterations) for g in groups]


@dataclass(frozen=True)
class BatchNormScale(Method):
    """Absolute scale of the unit's batch norm, summed over all it passes: Network Slimming, Liu et al. 2017."""

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return _batch_norm_sums(params, groups, "bn-gamma", _SCALE)

    def normalise(self, groups: Sequence[Group], scores: Sequence[Array]) -> Scores:
        """The mean |gamma| of a unit: it is a gain, the same in every layer, and is compared as it is."""
        return _per_entry(groups, scores, _SCALE)


@dataclass(frozen=True)
class BatchNormBias(Method):
    """Absolute bias of the unit's batch norm, summed over all it passes."""

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return _batch_norm_sums(params, groups, "bn-beta", _SHIFT)

    def normalise(self, groups: Sequence[Group], scores: Sequence[Array]) -> Scores:
        """The mean |beta| of a unit, in units of a normalised activation in every layer."""
        return _per_entry(groups, scores, _SHIFT)


@dataclass(frozen=True)
class Random(Method):
    """Uniform numbers: the baseline every criterion has to beat."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadInput(f"method 'random': option seed={self.seed} is negative; give 0 or more")

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        rng = np.random.default_rng(self.seed)
        return [rng.random(len(group.units)) for group in groups]

    def normalise(self, groups: Sequence[Group], scores: Sequence[Array]) -> Scores:
        """The numbers themselves, all drawn alike."""
        return list(scores)


# -- sums over filters ---------------------------------------------------------------------------------------------


def _filter_sums(params: Params, groups: Sequence[Group], of: np.ufunc) -> Scores:
    """Sum of `of(w)` over each filter. A tensor is read once, however many groups share it."""
    sums: dict[tuple[str, int], Array] = {}
    scores = []
    for group in groups:
        total = np.zeros(len(group.units))
        for member in _filters(group):
            key = member.tensor, member.axis
            if key not in sums:
                sums[key] = _axis_sums(params[member.tensor], member.axis, of)
                _check_finite(sums[key], member.tensor)
            total += sums[key][member.index].sum(axis=1)
        scores.append(total)
    return scores


def _filters(group: Group) -> Iterator[Member]:
    return (member for member in group.members if member.role & Role.OUT)


def filters(params: Params, group: Group) -> Array:
    """The filters of a group as the rows of a float64 matrix [units, weights], for a criterion of one's own."""
    rows = [
        np.take(np.moveaxis(params[m.tensor], m.axis, 0), m.index, axis=0).reshape(len(group), -1)
        for m in _filters(group)
    ]
    return np.concatenate([np.empty((len(group), 0)), *rows], axis=1, dtype=np.float64)


def _axis_sums(tensor: npt.NDArray[Any], axis: int, of: np.ufunc) -> Array:
    """Sum of `of(tensor)` over all axes but one, in float32 by cache-sized chunks that are added up in float64."""
    before, length, after = _around(tensor.shape, axis)
    work = np.float64 if tensor.dtype == np.float64 else np.float32
    # With nothing in front, an index is a row and rows are summed; else whole slices [length x after] are added up.
    rows = tensor.reshape(length, after) if before == 1 else tensor.reshape(before, length * after)
    total = np.zeros(rows.shape[0] if before == 1 else rows.shape[1])
    step = max(1, _CHUNK // max(1, rows.shape[1]))
    buffer = np.empty((min(step, len(rows)), rows.shape[1]), work)
    for start in range(0, len(rows), step):
        part = rows[start : start + step].astype(work, copy=False)
        with np.errstate(over="ignore"):  # reported with the tensor's name by _check_finite
            values = of(part, out=buffer[: len(part)])
        if before == 1:
            total[start : start + step] = np.add.reduce(values, axis=1)
        else:
            total += np.add.reduce(values, axis=0)
    return total if before == 1 else total.reshape(length, after).sum(axis=1)


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """The number of elements in front of an axis, on it, and behind it."""
    before, after = np.prod(shape[:axis], dtype=int), np.prod(shape[axis + 1 :], dtype=int)
    return int(before), shape[axis], int(after)


def _check_finite(values: Array, tensor: str) -> None:
    if not np.isfinite(values).all():
        raise BadInput(f"tensor {tensor!r} holds NaN, infinite or absurdly large weights; it cannot be ranked")


# -- distances between filters -------------------------------------------------------------------------------------


def _distances(params: Params, group: Group) -> Array:
    """Euclidean distances [units, units] between the filters of a group, from their Gram matrix.

    The matrix adds up over producers and columns, so the filters are never copied as a whole; they are centred first,
    which keeps the cancellation in |a|^2 + |b|^2 - 2ab small.
    """
    n = len(group.units)
    gram = np.zeros((n, n), order="F")
    for member in _filters(group):
        tensor = np.moveaxis(params[member.tensor], member.axis, 0)
        rows = np.take(tensor, member.index, axis=0).reshape(n, -1)
        step = max(_COLUMNS, _CHUNK // n)
        for start in range(0, rows.shape[1], step):
            part = rows[:, start : start + step].astype(np.float64, order="C")
            _check_finite(part, member.tensor)
            part -= part.mean(axis=0)
            gram = dsyrk(1.0, part.T, beta=1.0, c=gram, trans=1, overwrite_c=1)
    squares = gram.diagonal().copy()
    gram += np.triu(gram, 1).T  # syrk fills one half
    gram *= -2
    gram += squares
    gram += squares[:, None]
    gram[gram < squares.max(initial=0.0) * _NOISE**2] = 0
    return np.sqrt(gram, out=gram)


def _to_fermat_point(distance: Array, tolerance: float, iterations: int) -> Array:
    """Distances [units] to the point with the least sum of distances, by Weiszfeld's iteration.

    The point stays an affine combination x = sum_k a_k F_k, and for such an x
    |x - F_k|^2 = (D a)_k - a'Da / 2 with D the squared distances: the dimension of the filters does not matter.
    Where x meets a filter the step is that of Vardi and Zhang (2000).
    """
    medoid = int(distance.sum(axis=1).argmin())
    squares = distance**2
    near = distance.max() * _NOISE
    if _is_fermat_point(distance, squares, medoid, near):
        return distance[medoid]
    a = np.full(len(distance), 1 / len(distance))
    image = squares @ a
    for _ in range(iterations):
        to_x = _length(image - a @ image / 2)
        met = to_x <= near
        pull = np.where(met, 0.0, 1 / np.where(met, 1.0, to_x))
        mean = pull / pull.sum()
        mean_image = squares @ mean
        if met.any():
            force = pull.sum() * _length(-(mean - a) @ (mean_image - image) / 2)
            share = min(1.0, met.sum() / force) if force > 0 else 1.0
            mean, mean_image = share * a + (1 - share) * mean, share * image + (1 - share) * mean_image
        step = _length(-(mean - a) @ (mean_image - image) / 2)
        a, image = mean, mean_image
        if step <= tolerance * to_x.mean():
            break
    return np.asarray(_length(image - a @ image / 2))


def _is_fermat_point(distance: Array, squares: Array, k: int, near: float) -> bool:
    """Whether filter k is the only point with the least sum of distances (Vardi and Zhang 2000, eq. 2.6).

    Only the filter with the least sum can be; asked first, since the iteration creeps towards such a point.
    """
    met = distance[k] <= near
    if met.all():
        return True
    pull = np.where(met, 0.0, 1 / np.where(met, 1.0, distance[k]))
    mean = pull / pull.sum()
    image = squares @ mean
    force = pull.sum() * _length(image[k] - mean @ image / 2)
    return bool(force < met.sum() * (1 - 1e-9))


def _length(square: Any) -> Any:
    """Root of a square that rounding may have made slightly negative."""
    return np.sqrt(np.maximum(square, 0))


# -- batch norm ----------------------------------------------------------------------------------------------------

_SCALE = Use("BatchNormalization", "scale")
_SHIFT = Use("BatchNormalization", "B")


def _batch_norm_sums(params: Params, groups: Sequence[Group], method: str, use: Use) -> Scores:
    scores = []
    for group in groups:
        total = np.full(len(group.units), np.nan)
        for number, member in enumerate(_used_as(group, use)):
            values = np.abs(params[member.tensor].astype(np.float64))
            _check_finite(values, member.tensor)
            part = values[member.index].sum(axis=1)
            total = total + part if number else part
        scores.append(total)
    if groups and all(np.isnan(total).any() for total in scores):
        raise BadInput(
            f"method {method!r}: no removable channel passes a batch norm, it is absent or folded into the weights; "
            "use l1, l2, gm or fermat"
        )
    return scores


def _used_as(group: Group, use: Use) -> list[Member]:
    return [member for member in group.members if member.use == use]


def _per_entry(groups: Sequence[Group], scores: Sequence[Array], use: Use) -> Scores:
    """Scores divided by how many batch norm entries a unit has."""
    entries = [sum(member.index.shape[1] for member in _used_as(group, use)) for group in groups]
    return [values / max(1, count) for values, count in zip(scores, entries, strict=True)]
