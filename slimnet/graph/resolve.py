"""From labels to units and groups: what is removed together, in which roles, and what is pinned."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Bools, Constraints, Integers, components
from slimnet.graph.choice import decide
from slimnet.graph.op import KERNEL
from slimnet.graph.parameters import NO_USE, ParameterAxis, Role, Use
from slimnet.graph.units import UNPRODUCED, Group, Member, Pin, Trace, pin_of
from slimnet.graph.walk import Followed, Walk

if TYPE_CHECKING:
    from slimnet.graph.net import Net


def resolve(net: Net, walk: Walk, allow_inexact: bool = False, prefer: str | None = None) -> Trace:
    """Turn what a walk over a network has collected into units, groups and pins."""
    constraints, axes = walk.constraints, walk.parameter_axes
    row = _Row.of(axes)
    produced = _set_roles(axes, row, walk)
    pairs = decide(constraints, axes, produced, prefer)
    component = components(constraints.count, [constraints.edges(), *pairs])
    reason = _reasons(component, constraints, produced)
    used = np.zeros(len(reason), bool)
    used[component[row.labels]] = True
    removable = used & (reason == -1)
    removable[component[0]] = False
    order, group_of_unit = _group(row, component, removable)
    unit_of_component = np.full(len(reason), -1)
    unit_of_component[order] = np.arange(len(order))
    unit_of_label = unit_of_component[component]
    unit_of_label[0] = -1
    return Trace(
        net=net,
        groups=_groups(axes, row, unit_of_label, group_of_unit),
        pins=_pins(axes, row, component, reason, constraints),
        n_units=len(order),
        parameter_axes=axes,
        allow_inexact=allow_inexact,
        prefer=prefer,
        _graph=Followed(walk, unit_of_label, reason[component]),
    )


@dataclass(frozen=True)
class _Row:
    """The labels of all parameter axes, one axis after the other, without their signs.

    Attributes:
        labels: The labels, int64 [sum of lengths].
        axis: The number of the parameter axis that each label lies on, int64 [sum of lengths].
        starts: The position in `labels` at which each parameter axis begins, int64 [axes].
    """

    labels: Integers
    axis: Integers
    starts: Integers

    @classmethod
    def of(cls, axes: Sequence[ParameterAxis]) -> _Row:
        lengths = np.array([len(axis.labels) for axis in axes], np.int64)
        labels = np.abs(np.concatenate([axis.labels for axis in axes])) if axes else np.zeros(0, np.int64)
        return cls(labels, np.repeat(np.arange(len(axes)), lengths), np.cumsum(lengths) - lengths)

    def reduce(self, ufunc: np.ufunc, of_label: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What belongs to the labels of each parameter axis, reduced to one value per axis; none is empty."""
        return np.asarray(ufunc.reduceat(of_label[self.labels], self.starts) if len(self.starts) else of_label[:0])


def _set_roles(axes: Sequence[ParameterAxis], row: _Row, walk: Walk) -> Bools:
    """Write into each parameter axis its role and its use; return for each label whether some parameter produces it."""
    role_of_label, use_of_label, uses = _roles(walk.constraints.count, walk.roles)
    roles, numbers = row.reduce(np.bitwise_or, role_of_label), row.reduce(np.maximum, use_of_label)
    for axis, role, number in zip(axes, roles.tolist(), numbers.tolist(), strict=True):
        # What is computed of weights is no filter beside them.
        axis.role, axis.use = Role((axis.known is None and role) or Role.ALONG), uses[number]
    return (role_of_label & Role.OUT) > 0


def _roles(
    count: int, roles: Sequence[tuple[Integers, Role, Use]]
) -> tuple[npt.NDArray[np.uint8], Integers, list[Use]]:
    """For each label, the roles and the number of the use (the last one said); and the names of the uses."""
    role_of_label = np.zeros(count, np.uint8)
    use_of_label = np.zeros(count, np.int64)
    names = {NO_USE: 0}
    with_role: dict[Role, list[Integers]] = {}
    with_use: list[tuple[Integers, int]] = []
    for labels, role, use in roles:
        with_role.setdefault(role, []).append(labels)
        if use is not NO_USE:
            with_use.append((labels, names.setdefault(use, len(names))))
    for role, parts in with_role.items():
        role_of_label[np.concatenate(parts)] |= np.uint8(role)
    if with_use:
        lengths = [len(labels) for labels, _ in with_use]
        numbers = np.repeat([number for _, number in with_use], lengths)
        use_of_label[np.concatenate([labels for labels, _ in with_use])] = numbers
    return role_of_label, use_of_label, list(names)


def _reasons(component: Integers, constraints: Constraints, produced: Bools) -> Integers:
    """For each component: -1 if it is free, the position of the first of `frozen` that pins it, or `UNPRODUCED`."""
    reason = np.full(component.max() + 1, UNPRODUCED)
    reason[component[produced]] = -1
    for k in range(len(constraints.frozen) - 1, -1, -1):
        reason[component[constraints.frozen[k].labels]] = k
    return reason


def _group(row: _Row, component: Integers, removable: Bools) -> tuple[Integers, Integers]:
    """Removable components ordered group by group, and the group number of each.

    Two components are of one group if they occur equally often on the same parameter axes; a sum of random numbers, one
    per axis, stands for that set.
    """
    random = np.random.default_rng(0).integers(1, 2**63, len(row.starts), dtype=np.uint64)
    signature = np.zeros(len(removable), np.uint64)
    np.add.at(signature, component[row.labels], random[row.axis])
    chosen = np.flatnonzero(removable)
    _, first, inverse = np.unique(signature[chosen], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(rank, kind="stable")
    return chosen[order], rank[order]


def _groups(axes: Sequence[ParameterAxis], row: _Row, unit_of_label: Integers, group_of_unit: Integers) -> list[Group]:
    """The groups, each with its members in the order of the parameter axes."""
    count = int(group_of_unit[-1]) + 1 if len(group_of_unit) else 0
    members: list[list[Member]] = [[] for _ in range(count)]
    starts = np.searchsorted(group_of_unit, np.arange(count + 1))
    units = unit_of_label[row.labels]
    order = np.flatnonzero(units >= 0)
    order = order[np.argsort(row.axis[order] * len(group_of_unit) + units[order], kind="stable")]
    axis_of, group_of = row.axis[order], group_of_unit[units[order]]
    index = order - row.starts[axis_of]
    borders = np.flatnonzero(np.diff(axis_of, prepend=-1) | np.diff(group_of, prepend=-1))
    sizes = np.diff(starts).tolist()
    parts = np.split(index, borders)[1:]  # before the first border there is nothing
    for k, g, part in zip(axis_of[borders].tolist(), group_of[borders].tolist(), parts, strict=True):
        axis = axes[k]
        members[g].append(Member(axis.name, axis.axis, axis.role, part.reshape(sizes[g], -1), axis.use))
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


def _pins(
    axes: Sequence[ParameterAxis], row: _Row, component: Integers, reason: Integers, constraints: Constraints
) -> list[Pin]:
    """One line per tensor axis and reason, in the order of the graph; each pinned unit is listed once."""
    of_row = component[row.labels]
    fixed = np.flatnonzero(reason[of_row] != -1)
    pinned, first = np.unique(of_row[fixed], return_index=True)
    places = Counter(zip(row.axis[fixed[first]].tolist(), reason[pinned].tolist(), strict=True))
    pins = [
        pin_of(axes[k], count, why, constraints.frozen)
        for (k, why), count in sorted(places.items(), key=lambda item: item[0][0])
        if axes[k].data is None and axes[k].known is None
    ]
    return [pin for pin in pins if pin.why != KERNEL]
