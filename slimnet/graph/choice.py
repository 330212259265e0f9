"""Which axis of a grid may be cut: heads or head dims, whole groups or the same offset in every group.

Where an axis is reshaped into a grid, what is removed must be a product, so one axis of the grid is cut and the others
are kept whole (see `GridConstraint`). Grids that share labels must agree; each such cluster takes the choice that lets
most weight be removed, and of equal ones the choice with most units. A table that several nodes read, such as that of
rotary positions, does not count: all layers may share it, and it must not decide that the same part is cut out of each.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slimnet.graph.axes import Bools, Constraints, Frozen, GridConstraint, Integers, choose, components
from slimnet.graph.parameters import ParameterAxis, Role

#: What a user may prefer to cut: whole heads and conv groups, or a part of each.
PREFERENCES = ("heads", "head-dims")
#: More combinations than this are not tried for one cluster.
MAX_COMBINATIONS = 64
#: A half of what is removable is taken as removed when two choices are compared.
_TYPICAL_RATIO = 0.5


def decide(
    constraints: Constraints, parameters: Sequence[ParameterAxis], produced: Bools, prefer: str | None = None
) -> list[tuple[Integers, Integers]]:
    """Choose the live axis of every grid.

    Args:
        constraints: The collected pairs, frozen labels and grids; the labels that the choice freezes are added to it.
        parameters: The parameter axes, on which the labels are used.
        produced: For each label, whether some parameter produces it (only such units can be removed).
        prefer: "heads" takes the last but one axis of every grid that allows it, "head-dims" the last one.

    Returns:
        The pairs of equal labels that the choice adds.
    """
    grids = constraints.grids
    if not grids:
        return []
    component = components(constraints.count, [constraints.edges()])
    clusters = _clusters(grids, component)
    options = [_combinations([grids[r].shape for r in cluster]) for cluster in clusters]
    table = _Table.of(constraints, parameters, produced, component, clusters)
    scores: list[list[tuple[float, int]]] = [[] for _ in clusters]
    for k in range(max(map(len, options))):
        picked = {r: o[min(k, len(o) - 1)][i] for o, c in zip(options, clusters, strict=True) for i, r in enumerate(c)}
        for c, pair in enumerate(table.score(picked)):
            if k < len(options[c]):
                scores[c].append(pair)
    pairs = []
    for option, cluster, score in zip(options, clusters, scores, strict=True):
        best = _best(option, score, [len(grids[r].shape) for r in cluster], prefer)
        for r, axis in zip(cluster, option[best], strict=True):
            left, right, pinned = choose(grids[r], axis)
            pairs.append((left, right))
            why = "the grid it is reshaped into is cut along another axis, or not at all"
            constraints.frozen.append(Frozen(pinned, "Reshape", grids[r].node, why))
    return pairs


def _best(
    options: Sequence[tuple[int, ...]], scores: Sequence[tuple[float, int]], ranks: Sequence[int], prefer: str | None
) -> int:
    every = range(len(options))
    if prefer is not None:
        wanted = -2 if prefer == "heads" else -1
        useful = [i for i in every if scores[i][0] > 0]
        agree = {i: sum(a == n + wanted for a, n in zip(options[i], ranks, strict=True)) for i in useful}
        if useful:
            return max(useful, key=lambda i: (agree[i], scores[i]))
    return max(every, key=lambda i: scores[i])


def _clusters(grids: Sequence[GridConstraint], component: Integers) -> list[list[int]]:
    """Grids connected through their labels."""
    touched = [np.unique(_components_of(grid, component)) for grid in grids]
    rows = np.concatenate(touched)
    cols = np.repeat(len(component) + np.arange(len(grids)), [len(t) for t in touched])
    size = len(component) + len(grids)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, cols)), shape=(size, size))
    found = connected_components(graph, directed=False)[1][len(component) :]
    return [np.flatnonzero(found == number).tolist() for number in np.unique(found)]


def _components_of(grid: GridConstraint, component: Integers) -> Integers:
    labels = np.concatenate([np.abs(part).ravel() for part in (grid.flat, *grid.axes)])
    return component[labels[labels != 0]]


def _combinations(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """One axis per grid; grids of the same shape choose alike."""
    kinds = list(dict.fromkeys(shapes))
    combinations = itertools.product(*(range(len(kind) - 1, -1, -1) for kind in kinds))
    return [tuple(dict(zip(kinds, c, strict=True))[s] for s in shapes)
            for c in itertools.islice(combinations, MAX_COMBINATIONS)]  # fmt: skip


@dataclass(frozen=True)
class _Table:
    """Everything a choice can change, in compact numbers: only components that some grid touches (0: all others)."""

    pairs: dict[tuple[int, int], tuple[Integers, Integers, Integers]]
    blocked: Bools
    source: Bools
    cluster: Integers
    entry_axis: Integers
    entry_component: Integers
    lengths: Integers
    tensor: Integers
    sizes: npt.NDArray[np.float64]
    count: int

    @staticmethod
    def of(
        constraints: Constraints,
        parameters: Sequence[ParameterAxis],
        produced: Bools,
        component: Integers,
        clusters: Sequence[Sequence[int]],
    ) -> _Table:
        touched = np.unique(np.concatenate([_components_of(r, component) for r in constraints.grids]))
        compact = np.zeros(component.max() + 1, np.int64)
        compact[touched] = np.arange(1, len(touched) + 1)
        of_label = compact[component]
        of_label[0] = 0

        def status(labels: Integers) -> Bools:
            flags = np.zeros(len(touched) + 1, bool)
            flags[of_label[labels]] = True
            return flags

        cluster = np.full(len(touched) + 1, -1)
        pairs = {}
        for c, members in enumerate(clusters):
            for r in members:
                cluster[compact[_components_of(constraints.grids[r], component)]] = c
                for k in range(len(constraints.grids[r].shape)):
                    left, right, pinned = choose(constraints.grids[r], k)
                    pairs[r, k] = (of_label[left], of_label[right], of_label[pinned])
        entries = [of_label[np.abs(axis.labels)] for axis in parameters]
        live = [np.flatnonzero(e) for e in entries]
        names = {name: k for k, name in enumerate(dict.fromkeys(axis.name for axis in parameters))}
        sizes = np.zeros(len(names))
        for axis in parameters:
            if axis.role & (Role.IN | Role.OUT) or len(axis.value.uses()) < 2:
                sizes[names[axis.name]] = np.prod(axis.shape, dtype=float)
        return _Table(
            pairs=pairs,
            blocked=status(
                np.concatenate([p.labels for p in constraints.frozen]) if constraints.frozen else np.zeros(0, int)
            ),
            source=status(np.flatnonzero(produced)),
            cluster=cluster,
            entry_axis=np.repeat(np.arange(len(parameters)), [len(h) for h in live]),
            entry_component=np.concatenate([e[h] for e, h in zip(entries, live, strict=True)] or [np.zeros(0, int)]),
            lengths=np.array([len(axis.labels) for axis in parameters]),
            tensor=np.array([names[axis.name] for axis in parameters], np.int64),
            sizes=sizes,
            count=len(clusters),
        )

    def score(self, picked: dict[int, int]) -> list[tuple[float, int]]:
        """For each cluster, the weight a typical ratio would remove, and the number of removable units."""
        chosen = [self.pairs[key] for key in picked.items()]
        merged = components(len(self.cluster), [(left, right) for left, right, _ in chosen])
        blocked = np.zeros(merged.max() + 1, bool)
        blocked[merged[self.blocked]] = True
        blocked[merged[np.concatenate([pinned for *_, pinned in chosen])]] = True
        source = np.zeros(merged.max() + 1, bool)
        source[merged[self.source]] = True
        free = (source & ~blocked)[merged]
        free[0] = False
        # Fraction of each parameter axis that this cluster frees, then the product over the axes of a tensor.
        owner = self.cluster[self.entry_component]
        key = self.entry_axis * self.count + owner
        freed = np.bincount(key, free[self.entry_component], len(self.lengths) * self.count)
        rest = np.log1p(-_TYPICAL_RATIO * freed.reshape(-1, self.count) / self.lengths[:, None])
        left_over = np.zeros((len(self.sizes), self.count))
        np.add.at(left_over, self.tensor, rest)
        weight = (self.sizes[:, None] * -np.expm1(left_over)).sum(axis=0)
        units, first = np.unique(merged[free], return_index=True)
        owners = self.cluster[np.flatnonzero(free)[first]]
        counted = np.bincount(owners, minlength=self.count) if len(units) else np.zeros(self.count, np.int64)
        return list(zip(np.round(weight).tolist(), counted.tolist(), strict=True))
