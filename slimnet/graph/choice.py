"""Which axis of a grid stays live: heads or head dims, whole groups or the same offset in every group.

Where an axis is reshaped into a grid, what is removed must be a product, so one axis of the grid is cut and the others
stay whole (see `Relation`). Relations that share ids must agree; each such cluster takes the choice that lets most
weight be removed, and of equal ones the choice with most units.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slimnet.graph.axes import Bools, Ids, Ledger, Pinning, Relation, choose, components

if TYPE_CHECKING:
    from slimnet.graph.units import Slot

#: More combinations than this are not tried for one cluster; the first ones stand for all.
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
    if not ledger.relations:
        return []
    base = [ledger.edges()]
    labels = components(ledger.count, base)
    clusters = _clusters(ledger.relations, labels)
    options = [_combinations([ledger.relations[r].shape for r in cluster]) for cluster in clusters]
    scores: list[list[tuple[float, int]]] = [[] for _ in clusters]
    cluster_of = np.full(ledger.count, -1)
    for c, cluster in enumerate(clusters):
        for r in cluster:
            relation = ledger.relations[r]
            for ids in (relation.flat.ravel(), *relation.axes):
                cluster_of[labels[np.abs(ids[ids != 0])]] = c
    cluster_of = cluster_of[labels]
    cluster_of[0] = -1
    for k in range(max(map(len, options))):
        picked = {r: o[min(k, len(o) - 1)][i] for o, c in zip(options, clusters, strict=True) for i, r in enumerate(c)}
        scored = _score(ledger, slots, produced, base, picked, cluster_of, len(clusters))
        for c, pair in enumerate(scored):
            if k < len(options[c]):
                scores[c].append(pair)
    picked = {}
    for option, cluster, score in zip(options, clusters, scores, strict=True):
        best = _best(option, score, [len(ledger.relations[r].shape) for r in cluster], prefer)
        picked |= dict(zip(cluster, option[best], strict=True))
    pairs = []
    for r, axis in picked.items():
        left, right, pinned = choose(ledger.relations[r], axis)
        pairs.append((left, right))
        why = "another axis of the grid it is reshaped into is cut, or none can be"
        ledger.pinnings.append(Pinning(pinned, "Reshape", ledger.relations[r].node, why))
    return pairs


def _best(
    options: Sequence[tuple[int, ...]], scores: Sequence[tuple[float, int]], ranks: Sequence[int], prefer: str | None
) -> int:
    wanted = {"heads": -2, "head-dims": -1}.get(prefer or "")
    if wanted is not None:
        preferred = [i for i, o in enumerate(options)
                     if scores[i][0] > 0 and all(a == n + wanted for a, n in zip(o, ranks, strict=True))]  # fmt: skip
        partly = [i for i, o in enumerate(options) if scores[i][0] > 0 and o[-1] == ranks[-1] + wanted]
        for candidates in (preferred, partly):
            if candidates:
                return max(candidates, key=lambda i: scores[i])
    return max(range(len(options)), key=lambda i: scores[i])


def _clusters(relations: Sequence[Relation], labels: Ids) -> list[list[int]]:
    """Relations connected through their ids."""
    rows, cols = [], []
    for r, relation in enumerate(relations):
        touched = np.unique(labels[np.concatenate([np.abs(ids).ravel() for ids in (relation.flat, *relation.axes)])])
        touched = touched[touched != labels[0]]
        rows.append(touched)
        cols.append(np.full(len(touched), len(labels) + r))
    size = len(labels) + len(relations)
    flat = np.concatenate(rows), np.concatenate(cols)
    graph = coo_array((np.ones(len(flat[0]), np.int8), flat), shape=(size, size))
    found = connected_components(graph, directed=False)[1][len(labels) :]
    return [np.flatnonzero(found == label).tolist() for label in np.unique(found)]


def _combinations(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """One axis per relation; relations of the same shape choose alike."""
    kinds = list(dict.fromkeys(shapes))
    combinations = itertools.product(*(range(len(kind) - 1, -1, -1) for kind in kinds))
    return [tuple(dict(zip(kinds, c, strict=True))[s] for s in shapes)
            for c in itertools.islice(combinations, MAX_COMBINATIONS)]  # fmt: skip


def _score(
    ledger: Ledger,
    slots: Sequence[Slot],
    produced: Bools,
    base: list[tuple[Ids, Ids]],
    picked: dict[int, int],
    cluster_of: Ids,
    count: int,
) -> list[tuple[float, int]]:
    """For each cluster, the weight that a typical ratio would remove, and the number of its removable units."""
    chosen = [choose(ledger.relations[r], axis) for r, axis in picked.items()]
    labels = components(ledger.count, base + [(left, right) for left, right, _ in chosen])
    blocked = np.zeros(labels.max() + 1, bool)
    blocked[labels[np.concatenate([*(p.ids for p in ledger.pinnings), *(c[2] for c in chosen)])]] = True
    source = np.zeros(labels.max() + 1, bool)
    source[labels[produced]] = True
    free = (source & ~blocked)[labels]
    free[0] = False
    weight = np.zeros(count)
    left_over: dict[tuple[str, int], float] = {}
    size: dict[str, int] = {}
    for slot in slots:
        ids = np.abs(slot.ids)
        owner = cluster_of[ids]
        if owner.max() < 0:
            continue
        size[slot.name] = int(np.prod(slot.shape))
        for c in np.unique(owner[owner >= 0]):
            fraction = float((free[ids] & (owner == c)).mean())
            key = (slot.name, int(c))
            left_over[key] = left_over.get(key, 1.0) * (1.0 - _TYPICAL_RATIO * fraction)
    for (name, c), rest in left_over.items():
        weight[c] += size[name] * (1.0 - rest)
    removable = np.flatnonzero(free & (cluster_of >= 0))
    pairs = np.unique(np.stack([cluster_of[removable], labels[removable]], 1), axis=0)
    units = np.bincount(pairs[:, 0], minlength=count) if len(pairs) else np.zeros(count, np.int64)
    return list(zip(weight.tolist(), units.tolist(), strict=True))
