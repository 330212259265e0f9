"""From ids to units and groups: what can be removed together, what is pinned, and what a removal changes."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.graph.axes import Bools, Ids, Ledger, Pinning, components
from slimnet.graph.choice import decide
from slimnet.graph.evaluate import constant_of_shape
from slimnet.graph.op import KERNEL, NO_USE, Role, Use
from slimnet.graph.plan import Plan
from slimnet.graph.registry import Trait

if TYPE_CHECKING:
    from slimnet.graph.net import Net
    from slimnet.graph.op import Traced
    from slimnet.graph.trace import Edit, Tracer


@dataclass(frozen=True)
class Slot:
    """One live axis of one constant tensor.

    Tensors of rank 2 and more have one slot per axis, shared by all uses. Vectors and computed constants have their
    own for every use (`node`, input `place`); `data` is the value of a computed constant, `filler` the
    ConstantOfShape node behind a large one.
    """

    name: str
    axis: int
    ids: Ids
    shape: tuple[int, ...]
    value: ir.Value
    node: ir.Node | None = None
    place: int = 0
    data: npt.NDArray[Any] | None = None
    filler: ir.Node | None = None


@dataclass(frozen=True)
class Member:
    """One axis of one tensor as a group sees it.

    `index` is int64 [units, count]: the indices of that axis that belong to each unit. `use` names the operator and
    its input.
    """

    tensor: str
    axis: int
    role: Role
    index: Ids
    use: Use = NO_USE


@dataclass(frozen=True)
class Group:
    """Units with the same signature: the same axes of the same tensors in the same roles.

    `units` are unit numbers, `kind` is equal for groups of the same structure.
    """

    name: str
    units: Ids
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
    units: Ids
    layout: str
    grouped: int
    weight: int


@dataclass(frozen=True)
class Pin:
    """Units that must stay: how many, the first tensor axis they lie on, and which node says so and why."""

    units: int
    tensor: str
    axis: int
    op: str
    node: str
    why: str


class _Params(Mapping[str, npt.NDArray[Any]]):
    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        slot = self._slots[name]
        if slot.data is not None:
            return slot.data
        if slot.filler is not None:
            return np.broadcast_to(constant_of_shape(slot.filler), slot.shape)
        producer = slot.value.producer()
        tensor = slot.value.const_value if producer is None else producer.attributes["value"].as_tensor()
        assert tensor is not None
        return tensor.numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


@dataclass
class Trace:
    """What can be removed from a network, and what removing it changes.

    `allow_inexact` and `prefer` say how it was traced (see `trace`); plans remember them. `reason_of_id` is the number
    of the pinning that holds each id, negative where there is none.
    """

    net: Net
    groups: list[Group]
    pins: list[Pin]
    n_units: int
    unit_of_id: Ids
    slots: list[Slot]
    roles: list[Role]
    uses: list[Use]
    edits: list[Edit]
    zero_points: Mapping[str, tuple[npt.NDArray[Any], int | None]]
    layers: list[tuple[ir.Node, tuple[Ids, ...], float]]
    weights: dict[str, tuple[int, ...]]
    pieces: list[tuple[str, Ids]]
    computed: list[tuple[ir.Node, int]]
    captured: dict[ir.Value, ir.Node]
    values: dict[ir.Value, Traced]
    allow_inexact: bool = False
    prefer: str | None = None
    pinnings: Sequence[Pinning] = ()
    reason_of_id: Ids = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def model_hash(self) -> str:
        """Names, shapes and topology of the network, not its weights."""
        digest = hashlib.sha256()
        graph = self.net.model.graph
        for value in (*graph.inputs, *graph.initializers.values()):
            digest.update(f"{value.name}{value.shape};".encode())
        for node in graph:
            inputs = ",".join("" if v is None else v.name or "" for v in node.inputs)
            outputs = ",".join(v.name or "" for v in node.outputs)
            digest.update(f"{node.domain}:{node.op_type}({inputs})->{outputs};".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def axes(self) -> list[Axis]:
        """Every distinct axis with removable indices."""
        found: dict[tuple[bytes, str], Axis] = {}
        for slot, role, use in zip(self.slots, self.roles, self.uses, strict=True):
            if len(slot.shape) < 2 or not role & (Role.IN | Role.OUT):
                continue
            units = self.unit_of_id[np.abs(slot.ids)]
            if (units < 0).all():
                continue
            layout, grouped = _layout(use, slot)
            name = f"{slot.name} {'out' if role & Role.OUT else 'in'}"
            axis = Axis(name, units, layout, grouped, int(np.prod(slot.shape)))
            found.setdefault((units.tobytes(), layout), axis)
        for name, ids in self.pieces:
            units = self.unit_of_id[np.abs(ids)]
            if (units >= 0).any():
                found.setdefault((units.tobytes(), ""), Axis(name, units, "other", 1, 0))
        return list(found.values())

    @cached_property
    def param_sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor that a group touches."""
        return {slot.name: slot.shape for slot in self.slots}

    def params(self) -> Mapping[str, npt.NDArray[Any]]:
        """Value of every tensor that a group touches, by name, each read when it is asked for."""
        return _Params({slot.name: slot for slot in self.slots})

    def pins_of(self, slot: Slot) -> list[Pin]:
        """Why indices of a tensor's axis must stay, one reason each; `units` counts the indices."""
        fixed = np.abs(slot.ids)[self.unit_of_id[np.abs(slot.ids)] < 0]
        numbers = Counter(np.where(fixed == 0, _UNPRODUCED, self.reason_of_id[fixed]).tolist())
        return [_pin(count, slot, k, self.pinnings) for k, count in numbers.items()]

    def keep(self, removed: Bools) -> Bools:
        """Per id, whether it stays; element 0 stands for everything fixed."""
        return ~np.append(removed, False)[self.unit_of_id]

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

    def macs(self, removed: Bools | None = None) -> dict[ir.Node, int]:
        """Multiply-adds of each node that has any (conv, matrix product, recurrent), at the traced input sizes."""
        keep = self.keep(np.zeros(self.n_units, bool) if removed is None else removed)
        out: dict[ir.Node, int] = {}
        for node, vectors, factor in self.layers:
            lengths = [int(keep[np.abs(ids)].sum()) for ids in vectors]
            out[node] = out.get(node, 0) + round(math.prod(lengths) * factor)
        return out

    def parameters(self, removed: Bools | None = None) -> int:
        """Number of parameters: all float weights but the running statistics of batch norms."""
        keep = self.keep(np.zeros(self.n_units, bool) if removed is None else removed)
        sizes = {name: list(shape) for name, shape in self.weights.items()}
        for slot in self.slots:
            name = slot.value.name or ""
            if name in sizes:
                sizes[name][slot.axis] = int(keep[np.abs(slot.ids)].sum())
        return sum(math.prod(shape) for shape in sizes.values())

    def plan(self, removed: Bools, how: Mapping[str, Any] | None = None) -> Plan:
        """The kept indices of every axis that a removal changes."""
        keep = self.keep(removed)
        kept: dict[str, dict[int, Ids]] = {}
        for slot in self.slots:
            stays = keep[np.abs(slot.ids)]
            if not stays.all():
                kept.setdefault(slot.name, {})[slot.axis] = np.flatnonzero(stays)
        return Plan(kept, self.model_hash, {**(how or {}), "allow_inexact": self.allow_inexact, "prefer": self.prefer})

    def removed(self, plan: Plan) -> Bools:
        """The units a plan removes.

        Raises:
            BadInput: the plan belongs to another network, names unknown tensors, or cuts what must stay together.
        """
        if plan.model_hash != self.model_hash:
            raise BadInput(
                f"{plan.source}: made for another network (hash {plan.model_hash}, this one has {self.model_hash}); "
                "use the model the plan was made from"
            )
        removed = np.zeros(self.n_units, bool)
        slots = {(slot.name, slot.axis): slot for slot in self.slots}
        for tensor, axes in plan.kept.items():
            for axis, kept in axes.items():
                slot = slots.get((tensor, axis))
                if slot is None:
                    raise BadInput(f"{plan.source}: {tensor} cannot be cut on axis {axis}; make a new plan")
                gone = np.ones(len(slot.ids), bool)
                if len(kept) and (kept.max() >= len(gone)):
                    raise BadInput(f"{plan.source}: {tensor} has only {len(gone)} indices on axis {axis}")
                gone[kept] = False
                units = self.unit_of_id[np.abs(slot.ids[gone])]
                if (units < 0).any():
                    raise BadInput(f"{plan.source}: removes pinned indices of {tensor}, axis {axis}; see slimnet trace")
                removed[units] = True
        same = self.plan(removed).kept
        for tensor, axes in same.items():
            for axis, kept in axes.items():
                if not np.array_equal(plan.kept.get(tensor, {}).get(axis, np.zeros(0)), kept):
                    raise BadInput(f"{plan.source}: {tensor}, axis {axis}, keeps a part of a unit; units go as a whole")
        return removed


def _layout(use: Use, slot: Slot) -> tuple[str, int]:
    traits = use.traits
    if Trait.CONVOLUTION in traits:
        if use.groups == 1:
            return "conv", 1
        return ("depthwise" if slot.shape[1] == 1 else "grouped"), use.groups
    return ("gemm", 1) if Trait.PRODUCT in traits else ("other", 1)


def resolve(tracer: Tracer, prefer: str | None = None) -> Trace:
    """Turn what a walk collected into units, groups and pins."""
    ledger, slots = tracer.ledger, tracer.slots
    row = _Row.of(slots)
    role_of_id, use_of_id, names = _marks(ledger.count, tracer.marks)
    produced = (role_of_id & Role.OUT) > 0
    pairs = decide(ledger, slots, produced, prefer)
    labels = components(ledger.count, [ledger.edges(), *pairs])
    reason = _reasons(labels, ledger, produced)
    used = np.zeros(len(reason), bool)
    used[labels[row.ids]] = True
    removable = used & (reason == -1)
    removable[labels[0]] = False
    order, group_of_unit = _group(row, labels, removable)
    unit_of_label = np.full(len(reason), -1)
    unit_of_label[order] = np.arange(len(order))
    unit_of_id = unit_of_label[labels]
    unit_of_id[0] = -1
    roles = [Role(role or Role.ALONG) for role in row.reduce(np.bitwise_or, role_of_id).tolist()]
    uses = [names[use] for use in row.reduce(np.maximum, use_of_id).tolist()]
    return Trace(
        net=tracer.net,
        groups=_groups(slots, roles, uses, row, unit_of_id, group_of_unit),
        pins=_pins(slots, row, labels, reason, ledger),
        n_units=len(order),
        unit_of_id=unit_of_id,
        slots=slots,
        roles=roles,
        uses=uses,
        edits=tracer.edits,
        zero_points=tracer.zero_points,
        layers=tracer.macs,
        weights=_weights(tracer, roles),
        pieces=tracer.pieces,
        computed=tracer.computed,
        captured=tracer.captured,
        values=tracer.values,
        allow_inexact=tracer.allow_inexact,
        prefer=prefer,
        pinnings=ledger.pinnings,
        reason_of_id=reason[labels],
    )


@dataclass(frozen=True)
class _Row:
    """The ids of all slots, one slot after the other, without their signs.

    Attributes:
        ids: int64 [sum of lengths].
        slot: of each its slot.
        starts: of each slot its first.
    """

    ids: Ids
    slot: Ids
    starts: Ids

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> _Row:
        lengths = np.array([len(slot.ids) for slot in slots], np.int64)
        ids = np.abs(np.concatenate([slot.ids for slot in slots])) if slots else np.zeros(0, np.int64)
        return cls(ids, np.repeat(np.arange(len(slots)), lengths), np.cumsum(lengths) - lengths)

    def reduce(self, ufunc: np.ufunc, of_id: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What belongs to the ids of each slot, taken together; no slot is empty."""
        return np.asarray(ufunc.reduceat(of_id[self.ids], self.starts) if len(self.starts) else of_id[:0])


def _weights(tracer: Tracer, roles: Sequence[Role]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that counts as parameters, weights made by a ConstantOfShape among them."""
    found = {name: shape for name, shape in tracer.weights.items() if name not in tracer.statistics}
    for slot, role in zip(tracer.slots, roles, strict=True):
        if slot.filler is not None and role & (Role.IN | Role.OUT):
            found[slot.name] = slot.shape
    return found


def _marks(count: int, marks: Sequence[tuple[Ids, Role, Use]]) -> tuple[npt.NDArray[np.uint8], Ids, list[Use]]:
    """Per id: the roles and the number of the use (the last one marked); and the names of the uses."""
    role_of_id = np.zeros(count, np.uint8)
    use_of_id = np.zeros(count, np.int64)
    names = {NO_USE: 0}
    with_role: dict[Role, list[Ids]] = {}
    with_use: list[tuple[Ids, int]] = []
    for ids, role, use in marks:
        with_role.setdefault(role, []).append(ids)
        if use is not NO_USE:
            with_use.append((ids, names.setdefault(use, len(names))))
    for role, all_ids in with_role.items():
        role_of_id[np.concatenate(all_ids)] |= np.uint8(role)
    if with_use:
        lengths = [len(ids) for ids, _ in with_use]
        use_of_id[np.concatenate([ids for ids, _ in with_use])] = np.repeat([number for _, number in with_use], lengths)
    return role_of_id, use_of_id, list(names)


#: Reasons that are no pinning: nothing produces the unit.
_UNPRODUCED = -2


def _reasons(labels: Ids, ledger: Ledger, produced: Bools) -> Ids:
    """Per label: -1 if free, the number of the first pinning that holds it, or `_UNPRODUCED`."""
    reason = np.full(labels.max() + 1, _UNPRODUCED)
    reason[labels[produced]] = -1
    for k in range(len(ledger.pinnings) - 1, -1, -1):
        reason[labels[ledger.pinnings[k].ids]] = k
    return reason


def _group(row: _Row, labels: Ids, removable: Bools) -> tuple[Ids, Ids]:
    """Removable labels ordered group by group, and the group number of each.

    Two labels are of one group if they occur equally often in the same slots; a sum of random numbers, one per slot,
    stands for that set.
    """
    random = np.random.default_rng(0).integers(1, 2**63, len(row.starts), dtype=np.uint64)
    signature = np.zeros(len(removable), np.uint64)
    np.add.at(signature, labels[row.ids], random[row.slot])
    chosen = np.flatnonzero(removable)
    _, first, inverse = np.unique(signature[chosen], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(rank, kind="stable")
    return chosen[order], rank[order]


def _groups(
    slots: Sequence[Slot], roles: Sequence[Role], uses: Sequence[Use], row: _Row, unit_of_id: Ids, group_of_unit: Ids
) -> list[Group]:
    """The groups, each with its members in the order of the slots."""
    count = int(group_of_unit[-1]) + 1 if len(group_of_unit) else 0
    members: list[list[Member]] = [[] for _ in range(count)]
    starts = np.searchsorted(group_of_unit, np.arange(count + 1))
    units = unit_of_id[row.ids]
    order = np.flatnonzero(units >= 0)
    order = order[np.argsort(row.slot[order] * len(group_of_unit) + units[order], kind="stable")]
    slot_of, group_of = row.slot[order], group_of_unit[units[order]]
    index = order - row.starts[slot_of]
    borders = np.flatnonzero(np.diff(slot_of, prepend=-1) | np.diff(group_of, prepend=-1))
    sizes = np.diff(starts).tolist()
    parts = np.split(index, borders)[1:]  # before the first border there is nothing
    for k, g, part in zip(slot_of[borders].tolist(), group_of[borders].tolist(), parts, strict=True):
        members[g].append(Member(slots[k].name, slots[k].axis, roles[k], part.reshape(sizes[g], -1), uses[k]))
    names: Counter[str] = Counter()
    out = []
    for g, found in enumerate(members):
        name = next((m.tensor for m in found if m.role & Role.OUT), found[0].tensor)
        names[name] += 1
        label = name if names[name] == 1 else f"{name}#{names[name]}"
        out.append(Group(label, np.arange(starts[g], starts[g + 1]), tuple(found), _kind(found)))
    return out


def _kind(members: Sequence[Member]) -> str:
    """Equal for groups of the same structure, whatever their sizes and names."""
    parts = sorted(f"{m.use}/{m.axis}/{int(m.role)}/{m.index.shape[1]}" for m in members)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def _pins(slots: Sequence[Slot], row: _Row, labels: Ids, reason: Ids, ledger: Ledger) -> list[Pin]:
    """One line per tensor axis and reason, in the order of the graph; each pinned unit is listed once."""
    of_row = labels[row.ids]
    held = np.flatnonzero(reason[of_row] != -1)
    pinned, first = np.unique(of_row[held], return_index=True)
    places = Counter(zip(row.slot[held[first]].tolist(), reason[pinned].tolist(), strict=True))
    pins = [
        _pin(count, slots[k], why, ledger.pinnings)
        for (k, why), count in sorted(places.items(), key=lambda item: item[0][0])
        if slots[k].data is None
    ]
    return [pin for pin in pins if pin.why != KERNEL]


def _pin(count: int, slot: Slot, reason: int, pinnings: Sequence[Pinning]) -> Pin:
    if reason < 0:
        return Pin(count, slot.name, slot.axis, "", "", "no layer's weights produce it")
    cause = pinnings[reason]
    return Pin(count, slot.name, slot.axis, cause.op, cause.node, cause.why)
