"""Which axis of a grid stays live: heads or head dims, whole groups or the same offset in every group.

Where an axis is reshaped into a grid, what is removed must be a product, so one axis of the grid is cut and the others
stay whole (see `Relation`). Relations that share ids must agree; each such cluster takes the choice that lets most
weight be removed, and of equal ones the choice with most units.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slimnet.graph.axes import Bools, Ids, Ledger, Pinning, Relation, choose, components

if TYPE_CHECKING:
    from slimnet.graph.units import Slot

#: What a user may prefer to cut: whole heads and conv groups, or a part of each.
PREFERENCES = ("heads", "head-dims")
#: More combinations than this are not tried for one cluster.
MAX_COMBINATIONS = 64
#: A half of what is removable is taken as removed when two choices are compared.
_TYPICAL_RATIO = 0.5


def decide(ledger: Ledger, slots: Sequence[Slot], produced: Bools, prefer: str | None = None) -> list[tuple[Ids, Ids]]:
    """Choose the live axis of every relation.

    Args:
        ledger: collected pairs, pinnings and relations; the pinnings of the choice are added to it.
        slots: where ids are used by parameters.
        produced: per id, whether some parameter produces it (only such units can be removed).
        prefer: "heads" takes the last but one axis of every grid that allows it, "head-dims" the last one.

    Returns:
        The pairs of equal ids that the choice adds.
    """
    relations = ledger.relations
    if not relations:
        return []
    labels = components(ledger.count, [ledger.edges()])
    clusters = _clusters(relations, labels)
    options = [_combinations([relations[r].shape for r in cluster]) for cluster in clusters]
    table = _Table.of(ledger, slots, produced, labels, clusters)
    scores: list[list[tuple[float, int]]] = [[] for _ in clusters]
    for k in range(max(map(len, options))):
        picked = {r: o[min(k, len(o) - 1)][i] for o, c in zip(options, clusters, strict=True) for i, r in enumerate(c)}
        for c, pair in enumerate(table.score(picked)):
            if k < len(options[c]):
                scores[c].append(pair)
    pairs = []
    for option, cluster, score in zip(options, clusters, scores, strict=True):
        best = _best(option, score, [len(relations[r].shape) for r in cluster], prefer)
        for r, axis in zip(cluster, option[best], strict=True):
            left, right, pinned = choose(relations[r], axis)
            pairs.append((left, right))
            why = "the grid it is reshaped into is cut along another axis, or not at all"
            ledger.pinnings.append(Pinning(pinned, "Reshape", relations[r].node, why))
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


def _clusters(relations: Sequence[Relation], labels: Ids) -> list[list[int]]:
    """Relations connected through their ids."""
    touched = [np.unique(_labels_of(relation, labels)) for relation in relations]
    rows = np.concatenate(touched)
    cols = np.repeat(len(labels) + np.arange(len(relations)), [len(t) for t in touched])
    size = len(labels) + len(relations)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, cols)), shape=(size, size))
    found = connected_components(graph, directed=False)[1][len(labels) :]
    return [np.flatnonzero(found == label).tolist() for label in np.unique(found)]


def _labels_of(relation: Relation, labels: Ids) -> Ids:
    ids = np.concatenate([np.abs(part).ravel() for part in (relation.flat, *relation.axes)])
    return labels[ids[ids != 0]]


def _combinations(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """One axis per relation; relations of the same shape choose alike."""
    kinds = list(dict.fromkeys(shapes))
    combinations = itertools.product(*(range(len(kind) - 1, -1, -1) for kind in kinds))
    return [tuple(dict(zip(kinds, c, strict=True))[s] for s in shapes)
            for c in itertools.islice(combinations, MAX_COMBINATIONS)]  # fmt: skip


@dataclass(frozen=True)
class _Table:
    """Everything a choice can change, in compact numbers: only labels that some relation touches (0: all others)."""

    pairs: dict[tuple[int, int], tuple[Ids, Ids, Ids]]
    blocked: Bools
    source: Bools
    cluster: Ids
    entry_slot: Ids
    entry_label: Ids
    lengths: Ids
    tensor: Ids
    sizes: npt.NDArray[np.float64]
    count: int

    @staticmethod
    def of(
        ledger: Ledger, slots: Sequence[Slot], produced: Bools, labels: Ids, clusters: Sequence[Sequence[int]]
    ) -> _Table:
        touched = np.unique(np.concatenate([_labels_of(r, labels) for r in ledger.relations]))
        compact = np.zeros(labels.max() + 1, np.int64)
        compact[touched] = np.arange(1, len(touched) + 1)
        of_id = compact[labels]
        of_id[0] = 0

        def status(ids: Ids) -> Bools:
            flags = np.zeros(len(touched) + 1, bool)
            flags[of_id[ids]] = True
            return flags

        cluster = np.full(len(touched) + 1, -1)
        pairs = {}
        for c, members in enumerate(clusters):
            for r in members:
                cluster[compact[_labels_of(ledger.relations[r], labels)]] = c
                for axis in range(len(ledger.relations[r].shape)):
                    left, right, pinned = choose(ledger.relations[r], axis)
                    pairs[r, axis] = (of_id[left], of_id[right], of_id[pinned])
        entries = [of_id[np.abs(slot.ids)] for slot in slots]
        hit = [np.flatnonzero(e) for e in entries]
        names = {name: k for k, name in enumerate(dict.fromkeys(slot.name for slot in slots))}
        sizes = np.zeros(len(names))
        for slot in slots:
            sizes[names[slot.name]] = np.prod(slot.shape, dtype=float)
        return _Table(
            pairs=pairs,
            blocked=status(np.concatenate([p.ids for p in ledger.pinnings]) if ledger.pinnings else np.zeros(0, int)),
            source=status(np.flatnonzero(produced)),
            cluster=cluster,
            entry_slot=np.repeat(np.arange(len(slots)), [len(h) for h in hit]),
            entry_label=np.concatenate([e[h] for e, h in zip(entries, hit, strict=True)] or [np.zeros(0, int)]),
            lengths=np.array([len(slot.ids) for slot in slots]),
            tensor=np.array([names[slot.name] for slot in slots], np.int64),
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
        # Fraction of each slot's axis that this cluster frees, then the product over the axes of a tensor.
        owner = self.cluster[self.entry_label]
        key = self.entry_slot * self.count + owner
        freed = np.bincount(key, free[self.entry_label], len(self.lengths) * self.count)
        rest = np.log1p(-_TYPICAL_RATIO * freed.reshape(-1, self.count) / self.lengths[:, None])
        left_over = np.zeros((len(self.sizes), self.count))
        np.add.at(left_over, self.tensor, rest)
        weight = (self.sizes[:, None] * -np.expm1(left_over)).sum(axis=0)
        units, first = np.unique(merged[free], return_index=True)
        owners = self.cluster[np.flatnonzero(free)[first]]
        counted = np.bincount(owners, minlength=self.count) if len(units) else np.zeros(self.count, np.int64)
        return list(zip(np.round(weight).tolist(), counted.tolist(), strict=True))
