"""What one walk over a graph collects for resolving, surgery and planning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools, Constraints, Ids, Labels
from slimnet.graph.edits import Edit
from slimnet.graph.parameters import ParameterAxis, Role, Use

if TYPE_CHECKING:
    from slimnet.graph.op import Traced


@dataclass
class Walk:
    """What the rules of all nodes have said.

    Attributes:
        constraints: which ids are the same, and which are pinned.
        parameter_axes: where ids lie on constant tensors, in the order of the graph.
        roles: what the ids of an axis do in one use.
        edits: integers and nodes to rewrite.
        non_empty: parts of an axis that must not become empty, and the node that says so.
        computed: inputs (node, number) that are constants which the graph computes from shapes.
        captured: known constants that a subgraph reads, and the first node it belongs to.
        zero_points: quantised tensor -> its zero point, and the axis the zero point runs along or None.
        multiply_adds: of each node, parts that are the product of the lengths of some axes times a factor.
        values: what is known of each value.
        weights: shape of every weight, by name.
        statistics: names of weights that are no parameters but running statistics.
    """

    constraints: Constraints = field(default_factory=Constraints)
    parameter_axes: list[ParameterAxis] = field(default_factory=list)
    roles: list[tuple[Ids, Role, Use]] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    non_empty: list[tuple[str, Labels]] = field(default_factory=list)
    computed: list[tuple[ir.Node, int]] = field(default_factory=list)
    captured: dict[ir.Value, ir.Node] = field(default_factory=dict)
    zero_points: dict[str, tuple[npt.NDArray[Any], int | None]] = field(default_factory=dict)
    multiply_adds: list[tuple[ir.Node, tuple[Labels, ...], float]] = field(default_factory=list)
    values: dict[ir.Value, Traced] = field(default_factory=dict)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    statistics: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Followed:
    """A walk, and what has become of its ids.

    Attributes:
        walk: what was collected.
        unit_of_id: the unit each id belongs to, -1 if it is pinned; id 0 stands for everything fixed.
        reason_of_id: number of the frozen ids that pin each id, negative where there are none.
    """

    walk: Walk
    unit_of_id: Ids
    reason_of_id: Ids

    def units(self, labels: Labels) -> Ids:
        """The unit of each index of an axis, -1 where it is pinned."""
        if labels.strides == (0,):  # fixed as a whole
            return np.broadcast_to(np.int64(-1), labels.shape)
        return self.unit_of_id[np.abs(labels)]

    def kept(self, removed: Bools) -> Bools:
        """Per id, whether it is kept when some units are removed."""
        return ~np.append(removed, False)[self.unit_of_id]
