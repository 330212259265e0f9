"""Ten criteria on one network: their scores, how alike they rank, and whether they can rank at all.

Huang et al. 2021, "Rethinking the Pruning Criteria for Convolutional Neural Network", Table 1 and Sections 3 and 4. A
layer here is a group of units: filters that can only be removed together, as those of a residual stream, count as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.analysis import gaussian
from slimnet.analysis.similarity import lowest, overlap, relative_variance, spearman
from slimnet.calibration.measurements import measure
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.data.load import Data
from slimnet.graph.parameters import Role
from slimnet.graph.units import Group, Trace
from slimnet.methods import create
from slimnet.methods.base import Method, Scores
from slimnet.methods.from_data import DataMethod
from slimnet.methods.registry import compared
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT

Array = npt.NDArray[np.float64]

#: The criteria of the paper's Table 1, in its order.
CRITERIA = tuple(compared())
#: Criteria of which the spread over Gaussian filters is known.
_EXPECTED = {"l1": gaussian.l1, "l2": gaussian.l2, "fermat": gaussian.l2}


@dataclass(frozen=True)
class Applicability:
    """How far a criterion distinguishes the filters of a layer.

    Attributes:
        mean, variance: The mean and the population variance of the scores.
        by_mean: Var / E, the paper's measure; it has the unit of the score.
        by_square: Var / E^2, which has none; its root is the coefficient of variation.
        expected: Var / E^2 over Gaussian filters of the same size, where a formula gives it.
    """

    mean: float
    variance: float
    by_mean: float
    by_square: float
    expected: float | None


@dataclass(frozen=True)
class GroupStudy:
    """The criteria on one group.

    Attributes:
        name: The name of the group.
        units: The number of units in the group.
        size: The number of weights in the filters of one unit.
        rms: The root mean square of the weights of all filters of the group.
        scores: The scores by each criterion that can rank the group, [units].
        skipped: The reasons why the other criteria cannot rank the group.
        spearman, overlap: The rank correlations and the overlaps of the criteria, [criteria, criteria], in the order of
            `Study.criteria`; NaN where undefined.
        applicability: The applicability of each criterion that can rank the group.
    """

    name: str
    units: int
    size: int
    rms: float
    scores: Mapping[str, Array]
    skipped: Mapping[str, str]
    spearman: Array
    overlap: Array
    applicability: Mapping[str, Applicability]


@dataclass(frozen=True)
class AcrossGroups:
    """The criteria on all groups together.

    Attributes:
        spearman, overlap: The rank correlations and the overlaps of the criteria, [criteria, criteria], over the units
            of the groups that both can rank.
        removed: For each criterion, how many units of each group one threshold removes; None where it cannot rank the
            group.
    """

    spearman: Array
    overlap: Array
    removed: Mapping[str, list[int | None]]


@dataclass(frozen=True)
class Study:
    """What ten criteria say about a network.

    Attributes:
        criteria: The criteria that can rank at least one group.
        skipped: The reasons why the other criteria cannot.
        ratio: The fraction of lowest units that `overlap` and `removed` are about.
        samples: The number of samples seen by the criteria that look at data; 0 without data.
        groups: Each group by itself.
        raw: All units together, their scores compared as they are (the paper's global mode).
        normalised: All units together, their scores compared as `--scope global` compares them.
    """

    criteria: tuple[str, ...]
    skipped: Mapping[str, str]
    ratio: float
    samples: int
    groups: tuple[GroupStudy, ...]
    raw: AcrossGroups
    normalised: AcrossGroups


def study(
    trace: Trace,
    data: Data | None = None,
    ratio: float = 0.5,
    clock: Clock | None = None,
    backend: Backend = DEFAULT,
) -> Study:
    """Rank the units of a network by all ten criteria and compare the rankings.

    Args:
        trace: The trace of the network.
        data: The data that APoZ, entropy and the Taylor criteria look at: its training split, or its test split where
            it has no other. Without data they are skipped.
        ratio: The fraction of lowest units whose sets are compared.
        clock: The clock that times the steps.
        backend: The runtime that runs the network on the data.

    Raises:
        BadInput: Nothing can be removed, or the weights are not finite.
    """
    trace.check_removable()
    found, skipped = _scored(trace, data, clock or Clock(), backend)
    names, scores = tuple(found), {name: scores for name, (_, scores) in found.items()}
    comparable = {name: method.normalise(trace.groups, _zeroed(values)) for name, (method, values) in found.items()}
    unknown = {name: [bool(np.isnan(v).any()) for v in values] for name, values in scores.items()}
    normalised = {
        name: [np.full(len(v), np.nan) if missing else v for v, missing in zip(values, unknown[name], strict=True)]
        for name, values in comparable.items()
    }
    groups = tuple(_group(trace, g, scores, ratio) for g in range(len(trace.groups)))
    samples = 0 if data is None else len(data.train or data.test)
    return Study(names, skipped, ratio, samples, groups, _across(scores, ratio), _across(normalised, ratio))


# -- scores ----------------------------------------------------------------------------------------------------------


def _scored(
    trace: Trace, data: Data | None, clock: Clock, backend: Backend
) -> tuple[dict[str, tuple[Method, Scores]], dict[str, str]]:
    """Method and scores of every criterion that can rank something, and why the others cannot."""
    measured = _measured(trace, data, clock, backend)
    params = trace.params()
    found: dict[str, tuple[Method, Scores]] = {}
    skipped: dict[str, str] = {}
    for name in CRITERIA:
        method = create(name)
        try:
            if isinstance(method, DataMethod):
                method.statistics = measured(method)
            with clock("score"):
                found[name] = method, method.score(params, trace.groups)
        except BadInput as error:
            if name == "l1":  # it asks for nothing but finite weights
                raise
            skipped[name] = str(error)
    return found, skipped


def _measured(
    trace: Trace, data: Data | None, clock: Clock, backend: Backend
) -> Callable[[DataMethod], Mapping[str, Any]]:
    """A function that measures the statistics a criterion needs, each kind once; it raises BadInput where it cannot."""
    seen: dict[str, Mapping[str, Any]] = {}

    def once(method: DataMethod) -> Mapping[str, Any]:
        if method.needs not in seen:
            with clock("evidence"):
                seen[method.needs] = measure(method, trace, data, backend)
        return seen[method.needs]

    return once


def _zeroed(scores: Scores) -> Scores:
    """Scores that can be normalised: zeros for a group that cannot be ranked."""
    return [np.zeros(len(values)) if np.isnan(values).any() else values for values in scores]


# -- one group -------------------------------------------------------------------------------------------------------


def _group(trace: Trace, number: int, scores: Mapping[str, Scores], ratio: float) -> GroupStudy:
    group = trace.groups[number]
    known = {name: values[number] for name, values in scores.items() if not np.isnan(values[number]).any()}
    skipped = {name: _why(name) for name in scores if name not in known}
    table = np.array([values[number] for values in scores.values()])
    size = _filter_size(trace, group)
    rms = float(np.sqrt((known["l2"] ** 2).sum() / max(1, size * len(group))))
    spread = {name: _applicability(name, values, rms, size) for name, values in known.items()}
    return GroupStudy(group.name, len(group), size, rms, known, skipped, spearman(table), overlap(table, ratio), spread)


def _applicability(name: str, scores: Array, rms: float, size: int) -> Applicability:
    by_mean, by_square = relative_variance(scores)
    formula = _EXPECTED.get(name)
    expected = formula(rms, size).relative[1] if formula is not None and rms > 0 else None
    return Applicability(float(scores.mean()), float(scores.var()), by_mean, by_square, expected)


def _filter_size(trace: Trace, group: Group) -> int:
    """Weights of the filters of one unit."""
    filters = [member for member in group.members if member.role & Role.OUT]
    shapes = [trace.param_sizes[member.tensor] for member in filters]
    return sum(m.index.shape[1] * math.prod(s) // s[m.axis] for m, s in zip(filters, shapes, strict=True))


def _why(name: str) -> str:
    return "no batch norm behind these filters" if name.startswith("bn-") else "not seen in the data"


# -- all groups ------------------------------------------------------------------------------------------------------


def _across(scores: Mapping[str, Scores], ratio: float) -> AcrossGroups:
    sizes = [len(values) for values in next(iter(scores.values()))]
    table = np.array([np.concatenate(values) for values in scores.values()])
    both = (_pairwise(table, spearman), _pairwise(table, lambda rows: overlap(rows, ratio)))
    return AcrossGroups(*both, {name: _removed(row, sizes, ratio) for name, row in zip(scores, table, strict=True)})


def _pairwise(table: Array, of: Callable[[Array], Array]) -> Array:
    """A comparison of every two rows of [k, n], by the columns in which both hold numbers."""
    k = len(table)
    out = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(i, k):
            rows = table[[i, j]]
            out[i, j] = out[j, i] = of(rows[:, ~np.isnan(rows).any(axis=0)])[0, 1]
    return out


def _removed(row: Array, sizes: Sequence[int], ratio: float) -> list[int | None]:
    removed = np.zeros(len(row), bool)
    known = ~np.isnan(row)
    removed[known] = lowest(row[known], ratio)[0]
    parts = np.cumsum(sizes)[:-1]
    pairs = zip(np.split(removed, parts), np.split(known, parts), strict=True)
    return [int(part.sum()) if seen.all() else None for part, seen in pairs]
