"""What one walk over a graph collects for resolving, surgery and planning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools, Constraints, Integers, Labels
from slimnet.graph.edits import Edit
from slimnet.graph.parameters import ParameterAxis, Role, Use

if TYPE_CHECKING:
    from slimnet.graph.op import Traced


@dataclass
class Walk:
    """What the rules of all nodes have said.

    Attributes:
        constraints: Which labels are equal, which are pinned and which form grids.
        parameter_axes: The axes of constant tensors that have labels, in the order of the graph.
        roles: The labels of an axis without their signs, with their role in one use and that use.
        edits: The integers and nodes that surgery rewrites.
        non_empty: Parts of an axis that must not become empty, each with the node that requires it.
        computed: The inputs (node, number) that are constants which the graph computes from shapes.
        captured: The known constants that a subgraph reads, each with the first node that the subgraph belongs to.
        zero_points: For each quantised tensor, its zero point and the axis the zero point runs along, or None.
        multiply_adds: The multiply-adds of nodes in parts, each the product of the lengths of some axes and a factor.
        values: What is known of each value.
        read: The constants that follow a module although their values decide something, each with its values as read.
        weights: The shape of every weight, by name.
        statistics: The names of weights that are no parameters but running statistics.
    """

    constraints: Constraints = field(default_factory=Constraints)
    parameter_axes: list[ParameterAxis] = field(default_factory=list)
    roles: list[tuple[Integers, Role, Use]] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    non_empty: list[tuple[str, Labels]] = field(default_factory=list)
    computed: list[tuple[ir.Node, int]] = field(default_factory=list)
    captured: dict[ir.Value, ir.Node] = field(default_factory=dict)
    zero_points: dict[str, tuple[npt.NDArray[Any], int | None]] = field(default_factory=dict)
    multiply_adds: list[tuple[ir.Node, tuple[Labels, ...], float]] = field(default_factory=list)
    values: dict[ir.Value, Traced] = field(default_factory=dict)
    read: dict[ir.Value, npt.NDArray[Any]] = field(default_factory=dict)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    statistics: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Followed:
    """A walk, and what its labels were resolved to.

    Attributes:
        walk: What the walk collected.
        unit_of_label: For each label, the unit it belongs to, -1 if it is pinned; label 0 stands for everything fixed.
        reason_of_label: For each label, the position in `Constraints.frozen` of what pins it, negative where nothing
            there does.
    """

    walk: Walk
    unit_of_label: Integers
    reason_of_label: Integers

    def units(self, labels: Labels) -> Integers:
        """The unit of each index of an axis, -1 where it is pinned."""
        if labels.strides == (0,):  # fixed as a whole
            return np.broadcast_to(np.int64(-1), labels.shape)
        return self.unit_of_label[np.abs(labels)]

    def kept(self, removed: Bools) -> Bools:
        """For each label, whether it is kept when some units are removed."""
        return ~np.append(removed, False)[self.unit_of_label]
