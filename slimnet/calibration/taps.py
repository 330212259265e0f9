"""Where the units of a network can be seen: the values behind the first nonlinearity after their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from slimnet.graph.axes import Integers
from slimnet.graph.registry import Trait, traits_of
from slimnet.graph.units import Trace


@dataclass(frozen=True)
class Tap:
    """An axis of a value on which units of a group lie.

    Attributes:
        value: The name of the value.
        axis: The axis of it that counts channels.
        index: The indices of that axis that belong to the group, int64 [k].
        unit: The unit of the group, counted from 0, that each of those indices belongs to, int64 [k].
    """

    value: str
    axis: int
    index: Integers
    unit: Integers


def taps(trace: Trace) -> list[list[Tap]]:
    """For each group, the axes of the values right behind the first nonlinearity after each of its layers.

    Of x * sigmoid(x) and the like the product counts. The layers' own outputs stand in where no nonlinearity follows,
    and where there are no layers, the first value that the units lie on.
    """
    carried = {value: _groups_on(trace, value) for value in trace.values}
    data = {value: axes for value, axes in carried.items() if axes and not trace.is_constant(value)}
    layers = dict.fromkeys(node for node, _ in trace.multiply_adds)
    out = []
    for g, group in enumerate(trace.groups):
        mine = {value: axes[g] for value, axes in data.items() if g in axes}
        makers = [node for node in layers if any(g in carried.get(v, ()) for v in _parameters(trace, node))]
        made = [value for node in makers for value in node.outputs if value in mine]
        seen = _activations(made, mine, layers) or made or list(mine)[:1]
        out.append([_tap(trace, value, mine[value], group.units) for value in seen])
    return out


def _parameters(trace: Trace, node: ir.Node) -> list[ir.Value]:
    return [v for v in node.inputs if v is not None and trace.is_constant(v)]


def _groups_on(trace: Trace, value: ir.Value) -> dict[int, int]:
    """The groups with units on a value, and the first axis they lie on."""
    found: dict[int, int] = {}
    for axis, units in enumerate(trace.units_in(value) or ()):
        for g in np.unique(trace.group_of_unit[units[units >= 0]]).tolist():
            found.setdefault(g, axis)
    return found


def _activations(
    made: Sequence[ir.Value], mine: Mapping[ir.Value, int], layers: Mapping[ir.Node, None]
) -> list[ir.Value]:
    """Where the units first come out of a nonlinearity, following them from their layers but not through others."""
    raw, found = dict.fromkeys(made), dict[ir.Value, None]()
    queue = list(made)
    while queue:
        for node in queue.pop(0).consumers():
            outputs = [value for value in node.outputs if value in mine and value not in raw]
            if Trait.NONLINEAR in traits_of(node):
                found |= dict.fromkeys(_gated(value, raw, mine) for value in outputs)
            elif node not in layers:
                raw |= dict.fromkeys(outputs)
                queue += outputs
    return list(found)


def _gated(value: ir.Value, raw: Mapping[ir.Value, None], mine: Mapping[ir.Value, int]) -> ir.Value:
    """The product of a nonlinear value with what it was made from, if that is where it goes; else the value itself."""
    follow = value
    while len(users := follow.consumers()) == 1 and Trait.SCALES in traits_of(users[0]):
        follow = users[0].outputs[0]
        if users[0].op_type == "Mul" and follow in mine and any(other in raw for other in users[0].inputs):
            return follow
    return value


def _tap(trace: Trace, value: ir.Value, axis: int, units: Integers) -> Tap:
    axes = trace.units_in(value)
    assert axes is not None
    unit = axes[axis] - units[0]
    index = np.flatnonzero((unit >= 0) & (unit < len(units)))
    return Tap(value.name or "", axis, index, unit[index])
