"""What surgery has to rewrite besides the parameters: integers and nodes that depend on what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools, Labels


@dataclass(frozen=True)
class Recount:
    """Integers of one node that are lengths of what is kept of axes: elements of an input or an attribute."""

    node: ir.Node
    place: int | str
    old: npt.NDArray[np.int64] | None
    elements: Mapping[int, Labels]
    scalar: bool = False

    def new(self, keep: Bools) -> npt.NDArray[np.int64]:
        """The integers after removal; what is not declared keeps its value."""
        if self.old is None or (self.old.size == 1 and len(self.elements) > 1):
            return np.array([keep[np.abs(self.elements[i])].sum() for i in range(len(self.elements))], np.int64)
        out = self.old.astype(np.int64).ravel()
        for element, labels in self.elements.items():
            out[element] = keep[np.abs(labels)].sum()
        return out.reshape(self.old.shape)


@dataclass(frozen=True)
class Renumber:
    """Constant indices, which are positions on an axis (`labels`).

    `index_axes` describes the axes of the index tensor itself.
    """

    node: ir.Node
    place: int
    old: npt.NDArray[np.int64]
    labels: Labels
    index_axes: tuple[Labels, ...]

    def new(self, keep: Bools) -> npt.NDArray[np.int64]:
        """The kept indices, counted on the shrunken axis."""
        position = np.cumsum(keep[np.abs(self.labels)]) - 1
        index = self.old
        for k, labels in enumerate(self.index_axes):
            index = index.compress(keep[np.abs(labels)], k)
        return position[index]


@dataclass(frozen=True)
class Freeze:
    """An attribute (by name) or input (by number) that a live width implied; its dense value is written down."""

    node: ir.Node
    place: int | str
    value: float | list[int]


@dataclass(frozen=True)
class Restep:
    """A strided Slice of a live axis: becomes a Gather, since what is left of it has no stride."""

    node: ir.Node
    axis: int
    positions: npt.NDArray[np.int64]
    labels: Labels

    def indices(self, keep: Bools) -> npt.NDArray[np.int64]:
        kept = keep[np.abs(self.labels)]
        position = np.cumsum(kept) - 1
        return position[self.positions[kept[self.positions]]]


@dataclass(frozen=True)
class Inexact:
    """A node whose result changes when zeros are removed: LayerNorm, Softmax or a mean over a live axis.

    `gather` and `fill` list (input or output, axis) pairs; on all that are gathered the axis has these `labels`, on all
    that are filled it is `filled`.
    """

    node: ir.Node
    labels: Labels
    filled: Labels
    gather: tuple[tuple[int, int], ...]
    fill: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Settle:
    """A node that only constants go into, whose output stays what it is in the dense network, cut along its axes.

    Such are the mean and variance of a standardised weight, which would be others if computed of what is left.
    """

    node: ir.Node
    axes: tuple[Labels, ...]


@dataclass(frozen=True)
class Widen:
    """A node that must see where on an axis a channel was: it is given zeros in place of those that are gone.

    Attributes:
        node: The node, whose first output has as many axes as its input.
        place: The number of the input.
        axis: The axis, of the input and of the output.
        labels: The labels of the input's axis.
        out: The labels of the output's axis, which is cut again.
    """

    node: ir.Node
    place: int
    axis: int
    labels: Labels
    out: Labels


Edit: TypeAlias = Recount | Renumber | Freeze | Restep | Inexact | Settle | Widen
