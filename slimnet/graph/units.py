"""What can be removed from a network: units, the groups they fall into, what is pinned, and what a removal changes."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.graph.axes import Bools, Integers
from slimnet.graph.edits import Inexact
from slimnet.graph.parameters import NO_USE, ParameterAxis, Parameters, Role, Use
from slimnet.graph.plan import Plan
from slimnet.graph.registry import Trait

if TYPE_CHECKING:
    from slimnet.graph.axes import Frozen
    from slimnet.graph.net import Net
    from slimnet.graph.walk import Followed

#: A reason that is no frozen label: nothing produces the unit.
UNPRODUCED = -2


@dataclass(frozen=True)
class Member:
    """One axis of one tensor as a group sees it.

    `index` is int64 [units, count]: the indices of that axis that belong to each unit. `use` names the operator and
    its input.
    """

    tensor: str
    axis: int
    role: Role
    index: Integers
    use: Use = NO_USE


@dataclass(frozen=True)
class Group:
    """Units with the same signature: the same axes of the same tensors in the same roles.

    `units` are unit numbers, `kind` is equal for groups of the same structure.
    """

    name: str
    units: Integers
    members: tuple[Member, ...]
    kind: str

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Axis:
    """An axis on which channels meet: it must not become empty, and its length decides what the runtime does.

    `units` holds the unit number of each index, -1 where it is fixed. `layout` is "conv", "grouped", "depthwise",
    "gemm" or "other"; `grouped` the number of conv groups; `weight` the number of elements of the tensor.
    """

    name: str
    units: Integers
    layout: str
    grouped: int
    weight: int


@dataclass(frozen=True)
class Pin:
    """Units that are pinned: how many, the first tensor axis they lie on, and which node says so and why."""

    units: int
    tensor: str
    axis: int
    op: str
    node: str
    why: str


@dataclass(frozen=True)
class Count:
    """A number that falls as units are removed: the product of the lengths of some axes, times a factor.

    Attributes:
        axes: For each axis, the unit of each index, int64 [length], -1 where it is pinned.
        factor: The factor that no removal changes.
    """

    axes: tuple[Integers, ...]
    factor: float

    def left(self, kept: Bools) -> float:
        """What is left when some units are kept: bool [n_units + 1], the last one for everything pinned."""
        return math.prod(int(np.count_nonzero(kept[units])) for units in self.axes) * self.factor


@dataclass
class Trace:
    """What can be removed from a network.

    Attributes:
        net: The dense network.
        groups: The removable units, group by group; together they hold every unit once, in order.
        pins: What may not be removed, and why.
        n_units: The number of removable units.
        parameter_axes: Every axis of a constant tensor that rules have followed, in the order of the graph.
        allow_inexact: Whether channels were followed where removing zeros changes the result; plans record it.
        prefer: "heads" or "head-dims", if one was preferred (see `trace`); plans record it.
    """

    net: Net
    groups: list[Group]
    pins: list[Pin]
    n_units: int
    parameter_axes: list[ParameterAxis]
    allow_inexact: bool
    prefer: str | None
    _graph: Followed

    @cached_property
    def model_hash(self) -> str:
        """A hash of the names, shapes and topology of the network, not of its weights."""
        digest = hashlib.sha256()
        graph = self.net.model.graph
        for value in (*graph.inputs, *graph.initializers.values()):
            digest.update(f"{value.name}{value.shape};".encode())
        for node in graph.all_nodes():
            inputs = ",".join("" if v is None else v.name or "" for v in node.inputs)
            outputs = ",".join(v.name or "" for v in node.outputs)
            digest.update(f"{node.domain}:{node.op_type}({inputs})->{outputs};".encode())
        return digest.hexdigest()[:16]

    # -- where units are -----------------------------------------------------------------------------------------

    @cached_property
    def axes(self) -> list[Axis]:
        """Every distinct axis with removable indices."""
        found: dict[tuple[bytes, str], Axis] = {}
        for axis in self.parameter_axes:
            if not axis.is_weight or ((units := self._graph.units(axis.labels)) < 0).all():
                continue
            layout, grouped = _layout(axis)
            name = f"{axis.name} {'out' if axis.role & Role.OUT else 'in'}"
            seen = Axis(name, units, layout, grouped, int(np.prod(axis.shape)))
            found.setdefault((units.tobytes(), layout), seen)
        for name, labels in self._graph.walk.non_empty:
            units = self._graph.units(labels)
            if (units >= 0).any():
                found.setdefault((units.tobytes(), ""), Axis(name, units, "other", 1, 0))
        return list(found.values())

    @cached_property
    def group_of_unit(self) -> Integers:
        """Number of the group of each unit."""
        return np.repeat(np.arange(len(self.groups)), [len(group) for group in self.groups])

    @cached_property
    def _by_key(self) -> dict[tuple[str, int], ParameterAxis]:
        return {axis.key: axis for axis in self.parameter_axes}

    def units_on(self, tensor: str, axis: int) -> Integers | None:
        """The unit of each index of a parameter's axis, -1 where it is pinned; None if no rule has followed it."""
        found = self._by_key.get((tensor, axis))
        return None if found is None else self._graph.units(found.labels)

    def kept(self, tensor: str, axis: int, removed: Bools) -> Bools:
        """Which indices of a parameter's axis are kept when some units are removed.

        Raises:
            KeyError: No rule has followed this axis.
        """
        return ~np.append(removed, False)[self._graph.units(self._by_key[tensor, axis].labels)]

    def pins_of(self, tensor: str, axis: int) -> list[Pin]:
        """Why indices of a parameter's axis are pinned, one reason each; `units` counts the indices.

        Raises:
            KeyError: No rule has followed this axis.
        """
        found = self._by_key[tensor, axis]
        labels = np.abs(found.labels)
        pinned = labels[self._graph.unit_of_label[labels] < 0]
        numbers = Counter(np.where(pinned == 0, UNPRODUCED, self._graph.reason_of_label[pinned]).tolist())
        return [pin_of(found, count, k, self._graph.walk.constraints.frozen) for k, count in numbers.items()]

    @property
    def values(self) -> Iterator[ir.Value]:
        """What the network reads or computes, in the order of the graph; without what is inside the graphs of nodes."""
        return (value for value in self._graph.walk.values if value.graph is self.net.model.graph)

    def units_in(self, value: ir.Value) -> tuple[Integers, ...] | None:
        """For each axis of a value, the unit of each index, -1 where it is pinned; None if its axes are not known."""
        traced = self._graph.walk.values.get(value)
        return None if traced is None or traced.axes is None else tuple(map(self._graph.units, traced.axes))

    def shape_of(self, value: ir.Value) -> tuple[int, ...] | None:
        """Shape of a value at the input sizes of the trace; None if it is not known."""
        traced = self._graph.walk.values.get(value)
        return None if traced is None else traced.shape

    def is_constant(self, value: ir.Value) -> bool:
        """Whether nothing but constants of the graph goes into a value."""
        traced = self._graph.walk.values.get(value)
        return traced is not None and traced.parameter

    def known(self, value: ir.Value) -> npt.NDArray[Any] | None:
        """What a value holds at the input sizes of the trace, where that is known before the network runs."""
        traced = self._graph.walk.values.get(value)
        return None if traced is None else traced.data

    def zero_of(self, value: ir.Value) -> tuple[npt.NDArray[Any], int | None]:
        """What stands for zero in a weight: one number, or one for each index of an axis, and that axis."""
        return self._graph.walk.zero_points.get(value.name or "", (np.zeros((), np.int8), None))

    @property
    def is_inexact(self) -> bool:
        """Whether channels were followed through a node whose result changes when zeros are removed."""
        return any(isinstance(edit, Inexact) for edit in self._graph.walk.edits)

    @cached_property
    def param_sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that a group touches."""
        return {name: axis.shape for name, axis in self._axis_of.items()}

    @cached_property
    def _axis_of(self) -> dict[str, ParameterAxis]:
        return {axis.name: axis for axis in self.parameter_axes}

    def params(self) -> Mapping[str, npt.NDArray[Any]]:
        """Value of every tensor that a group touches, by name, each read when it is asked for."""
        return Parameters(self._axis_of)

    # -- removals ------------------------------------------------------------------------------------------------

    def by_group(self, removed: Bools) -> list[Bools]:
        """A bool [n_units] as one bool [units] per group."""
        return [removed[group.units] for group in self.groups]

    def from_groups(self, parts: Sequence[Bools]) -> Bools:
        """One bool [units] per group as a bool [n_units]."""
        removed = np.zeros(self.n_units, bool)
        for group, part in zip(self.groups, parts, strict=True):
            removed[group.units] = part
        return removed

    def never_empty(self, removed: Bools) -> Bools:
        """The units to remove without the first one of every axis that would be empty."""
        removed = removed.copy()
        for axis in self.axes:
            if len(axis.units) and (axis.units >= 0).all() and removed[axis.units].all():
                removed[axis.units[0]] = False
        return removed

    # -- counts --------------------------------------------------------------------------------------------------

    @cached_property
    def multiply_adds(self) -> list[tuple[ir.Node, Count]]:
        """Multiply-adds at the traced input sizes: one or more counts, which add up, for each node that has any."""
        return [(node, Count(tuple(map(self._graph.units, axes)), factor))
                for node, axes, factor in self._graph.walk.multiply_adds]  # fmt: skip

    @cached_property
    def parameter_counts(self) -> dict[str, Count]:
        """Number of elements of each parameter: all float weights but the running statistics of batch norms."""
        walk = self._graph.walk
        shapes = {name: shape for name, shape in walk.weights.items() if name not in walk.statistics}
        shapes |= {axis.name: axis.shape for axis in self.parameter_axes if axis.filler is not None and axis.is_weight}
        followed: dict[str, dict[int, Integers]] = {name: {} for name in shapes}
        for axis in self.parameter_axes:
            if (name := axis.value.name or "") in followed:
                followed[name][axis.axis] = self._graph.units(axis.labels)
        return {name: Count(tuple(followed[name].values()),
                            math.prod(n for k, n in enumerate(shape) if k not in followed[name]))
                for name, shape in shapes.items()}  # fmt: skip

    def macs(self, removed: Bools | None = None) -> dict[ir.Node, int]:
        """Multiply-adds of each node that has any (conv, matrix product, recurrent), at the traced input sizes."""
        kept = self._kept_units(removed)
        out: dict[ir.Node, int] = {}
        for node, count in self.multiply_adds:
            out[node] = out.get(node, 0) + round(count.left(kept))
        return out

    def check_removable(self) -> None:
        """Raise BadInput where nothing can be removed."""
        if not self.groups:
            why = "; ".join(["`slimnet trace` prints the reasons", *self.net.notes])
            raise BadInput(f"nothing can be removed: every channel is pinned; {why}")

    def parameters(self, removed: Bools | None = None) -> int:
        """Number of parameters: all float weights but the running statistics of batch norms."""
        kept = self._kept_units(removed)
        return sum(round(count.left(kept)) for count in self.parameter_counts.values())

    def _kept_units(self, removed: Bools | None) -> Bools:
        return ~np.append(np.zeros(self.n_units, bool) if removed is None else removed, False)

    # -- plans ---------------------------------------------------------------------------------------------------

    def plan(self, removed: Bools, provenance: Mapping[str, Any] | None = None) -> Plan:
        """The kept indices of every axis that a removal changes."""
        kept_ids = self._graph.kept(removed)
        kept: dict[str, dict[int, Integers]] = {}
        for axis in self.parameter_axes:
            part = kept_ids[np.abs(axis.labels)]
            if not part.all():
                kept.setdefault(axis.name, {})[axis.axis] = np.flatnonzero(part)
        traced = {"allow_inexact": self.allow_inexact, "prefer": self.prefer}
        return Plan(kept, self.model_hash, {**(provenance or {}), **traced})

    def removed(self, plan: Plan) -> Bools:
        """The units a plan removes.

        Raises:
            BadInput: The plan belongs to another network, names unknown tensors, or cuts what must be kept together.
        """
        if plan.model_hash != self.model_hash:
            raise BadInput(
                f"{plan.source}: made for another network (hash {plan.model_hash}, this one has {self.model_hash}); "
                "use the model the plan was made from, with the `constants` that were set then"
            )
        removed = np.zeros(self.n_units, bool)
        for tensor, axes in plan.kept.items():
            for axis, kept in axes.items():
                units = self.units_on(tensor, axis)
                if units is None:
                    raise BadInput(f"{plan.source}: {tensor} cannot be cut on axis {axis}; make a new plan")
                if len(kept) and (kept.max() >= len(units)):
                    raise BadInput(f"{plan.source}: {tensor} has only {len(units)} indices on axis {axis}")
                units = np.delete(units, kept)
                if (units < 0).any():
                    raise BadInput(f"{plan.source}: removes pinned indices of {tensor}, axis {axis}; see slimnet trace")
                removed[units] = True
        same = self.plan(removed).kept
        for tensor, axes in same.items():
            for axis, kept in axes.items():
                if not np.array_equal(plan.kept.get(tensor, {}).get(axis, np.zeros(0)), kept):
                    raise BadInput(f"{plan.source}: {tensor}, axis {axis}, keeps a part of a unit; units go as a whole")
        return removed


def _layout(axis: ParameterAxis) -> tuple[str, int]:
    traits, groups = axis.use.traits, axis.use.groups
    if Trait.CONVOLUTION in traits:
        if groups == 1:
            return "conv", 1
        return ("depthwise" if axis.shape[1] == 1 else "grouped"), groups
    return ("gemm", 1) if Trait.PRODUCT in traits else ("other", 1)


def pin_of(axis: ParameterAxis, count: int, reason: int, frozen: Sequence[Frozen]) -> Pin:
    """The pin of so many units, or indices of an axis; `reason` is a position in `frozen`, or `UNPRODUCED`."""
    if reason < 0:
        return Pin(count, axis.name, axis.axis, "", "", "no layer's weights produce it")
    cause = frozen[reason]
    return Pin(count, axis.name, axis.axis, cause.op, cause.node, cause.why)
