"""Index vectors: one number for every index of every axis of every tensor.

An *id vector* is an int64 array as long as the axis it describes:

* ``0``      the index is fixed, it may never be removed;
* ``+u``     the index belongs to id ``u``, and the tensor is zero there once ``u`` is masked;
* ``-u``     the index belongs to id ``u``, but masking ``u`` leaves a value there (a sigmoid of zero, say).

So slicing, concatenating, repeating and transposing tensors is slicing, concatenating, repeating and transposing
their id vectors, and the sign travels along. Which ids are the same is collected in a `Ledger` and resolved once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ids = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@lru_cache(maxsize=4096)
def fixed(length: int) -> Ids:
    """The id vector of an axis that cannot change; read-only and without memory of its own."""
    return np.broadcast_to(np.int64(0), (length,))


def is_live(ids: Ids) -> bool:
    """Whether any index of the axis could be removed."""
    # The first id mostly tells, and costs a tenth of looking at all.
    return ids.strides != (0,) and len(ids) > 0 and (ids.item(0) != 0 or bool(ids.any()))


def signed(ids: Ids, zero: Bools | bool) -> Ids:
    """The same ids, marked zero-when-removed where `zero` holds."""
    magnitude = np.abs(ids)
    return np.where(zero, magnitude, -magnitude)


def not_zero(ids: Ids) -> Ids:
    """The same ids after an operation that does not keep zeros."""
    return -np.abs(ids) if is_live(ids) else ids


@dataclass(frozen=True)
class Relation:
    """A flat axis seen as a grid: ``flat[i, j, ...]`` is the cell at index i of axis 0, j of axis 1, ...

    What is removed must be a product of the axes, or the grid would have holes. So only one axis may be live:
    choosing axis k unifies `flat` along all others with ``axes[k]`` and fixes the others.
    """

    flat: Ids
    axes: tuple[Ids, ...]
    node: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.flat.shape


@dataclass(frozen=True)
class Pinning:
    """Ids that must stay, and the reason."""

    ids: Ids
    op: str
    node: str
    why: str


@dataclass
class Ledger:
    """Collects which ids are the same and which must stay."""

    count: int = 1
    left: list[Ids] = field(default_factory=list)
    right: list[Ids] = field(default_factory=list)
    pinnings: list[Pinning] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)

    def fresh(self, length: int) -> Ids:
        """New ids for an axis; an axis of length one is fixed, since it cannot get smaller."""
        if length <= 1:
            return fixed(length)
        first, self.count = self.count, self.count + length
        return np.arange(first, self.count, dtype=np.int64)

    def same(self, a: Ids, b: Ids, op: str, node: str) -> None:
        """Index i of `a` goes or stays together with index i of `b`; what meets a fixed index is pinned."""
        if a is b:
            return
        live_a, live_b = is_live(a), is_live(b)
        if live_a and live_b:
            both = (a != 0) & (b != 0)
            if both.all():
                self.left.append(np.abs(a))
                self.right.append(np.abs(b))
                return
            self.left.append(np.abs(a[both]))
            self.right.append(np.abs(b[both]))
            self.pin(np.concatenate([a[b == 0], b[a == 0]]), op, node, "joins an axis that is fixed")
        elif live_a or live_b:
            self.pin(a if live_a else b, op, node, "joins an axis that is fixed")

    def pin(self, ids: Ids, op: str, node: str, why: str) -> None:
        """These ids must stay."""
        if is_live(ids):
            self.pinnings.append(Pinning(np.abs(ids[ids != 0]), op, node, why))

    def edges(self) -> tuple[Ids, Ids]:
        """All pairs collected so far as two flat vectors."""
        if not self.left:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(self.left), np.concatenate(self.right)


def components(count: int, pairs: Sequence[tuple[Ids, Ids]]) -> Ids:
    """Label of the connected component of each of `count` ids, given pairs of equal ids."""
    rows, cols = ([np.zeros(0, np.int32), *(pair[side].astype(np.int32) for pair in pairs)] for side in (0, 1))
    ones = np.ones(sum(len(left) for left, _ in pairs))  # as scipy wants them: it converts what is anything else
    graph = coo_array((ones, (np.concatenate(rows), np.concatenate(cols))), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def choose(relation: Relation, axis: int) -> tuple[Ids, Ids, Ids]:
    """Make one axis of a relation the live one.

    Returns:
        Two vectors of pairwise equal ids, and the ids that become fixed.
    """
    grid = np.moveaxis(np.abs(relation.flat), axis, 0).reshape(relation.shape[axis], -1)
    chosen = np.abs(relation.axes[axis])
    left = np.repeat(chosen, grid.shape[1])
    right = grid.ravel()
    others = [np.abs(ids) for k, ids in enumerate(relation.axes) if k != axis]
    open_pair = (left != 0) & (right != 0)
    pinned = np.concatenate([*others, left[right == 0], right[left == 0]])
    return left[open_pair], right[open_pair], pinned[pinned != 0]
