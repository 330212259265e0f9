"""Labels of axes: one number for every index of every axis of every tensor.

The *labels* of an axis are an int64 array as long as the axis. Indices with labels of equal magnitude are removed
together. The sign says whether zero is preserved, so that one array holds both:

* ``0``      the index is fixed, it may never be removed;
* ``+u``     the index has label ``u``, and the tensor is zero there once ``u`` is masked;
* ``-u``     the index has label ``u``, but masking ``u`` leaves a value there (a sigmoid of zero, say).

So slicing, concatenating, repeating and transposing tensors is slicing, concatenating, repeating and transposing
their labels, and what is known of zeros travels along. Which labels are equal is collected in `Constraints` and
resolved once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slimnet.common.memory import check_size

#: Labels of an axis, signs included.
Labels = npt.NDArray[np.int64]
#: Labels without signs, or any other numbers that count from zero: units, components, positions.
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
#: Bytes that are reckoned for one label: the vectors that are made of all of them.
LABEL = 64

#: Why labels are pinned that are the same as a fixed index.
FIXED = "joins an axis that is fixed: of an input, or of positions"


@lru_cache(maxsize=4096)
def fixed(length: int) -> Labels:
    """The labels of an axis that cannot change: read-only and without memory of its own."""
    return np.broadcast_to(np.int64(0), (length,))


def is_live(labels: Labels) -> bool:
    """Whether any index of the axis could be removed."""
    # The first label mostly decides, and costs a tenth of looking at all.
    return labels.strides != (0,) and len(labels) > 0 and (labels.item(0) != 0 or bool(labels.any()))


def signed(labels: Labels, zero: Bools | bool) -> Labels:
    """The same labels, with zero preserved where `zero` holds and nowhere else."""
    magnitude = np.abs(labels)
    return np.where(zero, magnitude, -magnitude)


def not_zero(labels: Labels) -> Labels:
    """The same labels after an operation that does not preserve zeros."""
    return -np.abs(labels) if is_live(labels) else labels


@dataclass(frozen=True)
class GridConstraint:
    """A flat axis seen as a grid: ``flat[i, j, ...]`` is the cell at index i of axis 0, j of axis 1, ...

    What is removed must be a product of the axes, or the grid would have holes. So only one axis may be live:
    choosing axis k unifies `flat` along all others with ``axes[k]`` and fixes the others.
    """

    flat: Labels
    axes: tuple[Labels, ...]
    node: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.flat.shape


@dataclass(frozen=True)
class Frozen:
    """Labels that are pinned, and the node and the reason that pin them."""

    labels: Integers
    op: str
    node: str
    why: str


@dataclass
class Constraints:
    """Collects which labels are equal, which are pinned and which form grids.

    Attributes:
        count: The number of labels so far; label 0 stands for everything fixed.
        left: Labels without signs, each equal to its counterpart in `right`.
        right: The counterparts of the labels in `left`.
        frozen: The labels that are pinned, each batch with its node and reason.
        grids: The axes that are seen as grids.
    """

    count: int = 1
    left: list[Integers] = field(default_factory=list)
    right: list[Integers] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)
    grids: list[GridConstraint] = field(default_factory=list)

    def fresh(self, length: int) -> Labels:
        """New labels for an axis; an axis of length one is fixed, since it cannot get smaller."""
        if length <= 1:
            return fixed(length)
        check_size([self.count + length], "the sum of all removable axes", LABEL)
        first, self.count = self.count, self.count + length
        return np.arange(first, self.count, dtype=np.int64)

    def same(self, a: Labels, b: Labels, op: str, node: str, why: str = FIXED) -> None:
        """Index i of `a` is removed together with index i of `b`; what meets a fixed one is pinned, for this reason."""
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
            self.pin(np.concatenate([a[b == 0], b[a == 0]]), op, node, why)
        elif live_a or live_b:
            self.pin(a if live_a else b, op, node, why)

    def pin(self, labels: Labels, op: str, node: str, why: str) -> None:
        """Pin these labels, for a reason that completes "this axis ..."."""
        if is_live(labels):
            self.frozen.append(Frozen(np.abs(labels[labels != 0]), op, node, why))

    def edges(self) -> tuple[Integers, Integers]:
        """All pairs collected so far as two flat vectors."""
        if not self.left:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(self.left), np.concatenate(self.right)


def components(count: int, pairs: Sequence[tuple[Integers, Integers]]) -> Integers:
    """Number of the connected component of each of `count` labels, given pairs of equal labels."""
    rows, cols = ([np.zeros(0, np.int32), *(pair[side].astype(np.int32) for pair in pairs)] for side in (0, 1))
    ones = np.ones(sum(len(left) for left, _ in pairs))  # as scipy wants them: it converts what is anything else
    graph = coo_array((ones, (np.concatenate(rows), np.concatenate(cols))), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def choose(grid: GridConstraint, axis: int) -> tuple[Integers, Integers, Integers]:
    """Make one axis of a grid the live one.

    Returns:
        Two vectors of pairwise equal labels, and the labels that become fixed.
    """
    cells = np.moveaxis(np.abs(grid.flat), axis, 0).reshape(grid.shape[axis], -1)
    chosen = np.abs(grid.axes[axis])
    left = np.repeat(chosen, cells.shape[1])
    right = cells.ravel()
    others = [np.abs(labels) for k, labels in enumerate(grid.axes) if k != axis]
    open_pair = (left != 0) & (right != 0)
    pinned = np.concatenate([*others, left[right == 0], right[left == 0]])
    return left[open_pair], right[open_pair], pinned[pinned != 0]
