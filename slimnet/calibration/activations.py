"""What units put out on data, measured by running any ONNX network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.data.load import Samples
from slimnet.graph.axes import Ids, is_live
from slimnet.graph.op import Traced
from slimnet.graph.registry import Trait, traits_of
from slimnet.graph.units import Trace
from slimnet.methods.from_data import Maps
from slimnet.runtime.backend import Backend, tap
from slimnet.runtime.feeds import input_dtypes
from slimnet.runtime.onnxruntime import DEFAULT

#: Elements of all maps that are held at a time: 256 MiB of float32.
_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Carrier:
    """An axis of a value on which units of a group lie: its index `index[k]` belongs to the group's unit `unit[k]`."""

    value: str
    axis: int
    index: Ids
    unit: Ids


def maps(
    trace: Trace,
    samples: Samples,
    above: float = 1e-4,
    batch: int = 64,
    limit: int = 5000,
    backend: Backend = DEFAULT,
) -> dict[str, Maps]:
    """Statistics of the activations of every unit, over all values that `carriers` finds for it.

    Args:
        trace: of a network with one input, whose first axis counts samples.
        samples: what to run it on.
        above: entries whose absolute value is larger count as active.
        batch: samples at a time, fewer where their maps would not fit into memory; a network whose file fixes the
            batch size runs with that.
        limit: so many of the samples are used at most, evenly spaced.
        backend: what runs the network.

    Returns:
        `Maps` by group name; groups that no value carries are left out.

    Raises:
        BadInput: samples that do not fit the network, or fewer than one batch of fixed size.
    """
    found = {group.name: parts for group, parts in zip(trace.groups, carriers(trace), strict=True) if parts}
    sizes = {group.name: len(group) for group in trace.groups}
    sums = {name: _Sums(parts, sizes[name]) for name, parts in found.items()}
    values = list(dict.fromkeys(part.value for parts in found.values() for part in parts))
    samples.check(trace.net)
    few = evenly(samples, limit)
    for count, arrays in _run(trace, few, values, batch, backend) if values else ():
        for part in sums.values():
            part.add(count, arrays, above)
    return {name: part.result() for name, part in sums.items()}


def evenly(samples: Samples, limit: int) -> Samples:
    """At most so many of the samples, evenly spaced, for many data sets are sorted by class."""
    count = min(limit, len(samples))
    return samples.take(np.arange(count) * len(samples) // count)


@dataclass
class _Sums:
    """Running sums over batches of one group."""

    parts: Sequence[Carrier]
    units: int
    active: npt.NDArray[np.float64] = field(init=False)
    entries: npt.NDArray[np.float64] = field(init=False)
    pooled: list[npt.NDArray[np.float32]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.active, self.entries = np.zeros(self.units), np.zeros(self.units)

    def add(self, samples: int, arrays: Mapping[str, npt.NDArray[Any]], above: float) -> None:
        total, count = np.zeros((self.units, samples)), np.zeros(self.units)
        for part in self.parts:
            lines = _by_index(arrays[part.value], part.axis, samples)
            np.add.at(total, part.unit, lines.sum(axis=2, dtype=np.float64)[part.index])
            active = np.count_nonzero(np.abs(lines) > above, axis=(1, 2))
            self.active += np.bincount(part.unit, active[part.index], self.units)
            count += np.bincount(part.unit, minlength=self.units) * lines.shape[2]
        self.entries += count * samples
        with np.errstate(invalid="ignore"):  # NaN, "cannot be ranked", for a unit that is not seen
            self.pooled.append((total / count[:, None]).T.astype(np.float32))

    def result(self) -> Maps:
        with np.errstate(invalid="ignore"):
            return Maps(self.active / self.entries, np.concatenate(self.pooled))


def _by_index(array: npt.NDArray[Any], axis: int, samples: int) -> npt.NDArray[Any]:
    """A value as [index along the axis, samples, entries]; one whose first axis counts no samples as a part of each."""
    lines = np.moveaxis(array, axis, 0)
    if axis != 0 and array.shape[0] == samples:
        return lines.reshape(len(lines), samples, -1)
    return np.broadcast_to(lines.reshape(len(lines), 1, -1), (len(lines), samples, lines[0].size))


# -- where units can be seen -----------------------------------------------------------------------------------------


def carriers(trace: Trace) -> list[list[Carrier]]:
    """For each group: the values right behind the first nonlinearity after each of its layers.

    Of x * sigmoid(x) and the like the product counts. The layers' own outputs stand in where no nonlinearity follows,
    and where there are no layers, the first value that carries the units.
    """
    group_of_unit = np.repeat(np.arange(len(trace.groups)), [len(group) for group in trace.groups])
    carried = {value: _groups_on(trace, traced, group_of_unit) for value, traced in trace.values.items()}
    data = {value: axes for value, axes in carried.items() if axes and not trace.values[value].parameter}
    layers = dict.fromkeys(node for node, _, _ in trace.layers)
    out = []
    for g, group in enumerate(trace.groups):
        mine = {value: axes[g] for value, axes in data.items() if g in axes}
        makers = [node for node in layers if any(g in carried.get(v, ()) for v in _parameters(trace, node))]
        made = [value for node in makers for value in node.outputs if value in mine]
        seen = _activations(made, mine, layers) or made or list(mine)[:1]
        out.append([_carrier(trace, value, mine[value], group.units) for value in seen])
    return out


def _parameters(trace: Trace, node: ir.Node) -> list[ir.Value]:
    return [v for v in node.inputs if v is not None and v in trace.values and trace.values[v].parameter]


def _groups_on(trace: Trace, traced: Traced, group_of_unit: Ids) -> dict[int, int]:
    """The groups with units on a value, and the first axis they lie on."""
    found: dict[int, int] = {}
    for axis, ids in enumerate(traced.axes or ()):
        if is_live(ids):
            units = trace.unit_of_id[np.abs(ids)]
            for g in np.unique(group_of_unit[units[units >= 0]]).tolist():
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


def _carrier(trace: Trace, value: ir.Value, axis: int, units: Ids) -> Carrier:
    axes = trace.values[value].axes
    assert axes is not None
    unit = trace.unit_of_id[np.abs(axes[axis])] - units[0]
    index = np.flatnonzero((unit >= 0) & (unit < len(units)))
    return Carrier(value.name or "", axis, index, unit[index])


# -- running ---------------------------------------------------------------------------------------------------------


def _run(
    trace: Trace, samples: Samples, values: Sequence[str], batch: int, backend: Backend
) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """The values, batch by batch, with the number of samples; of a fixed batch size what is left over is left out."""
    ((name, shape),) = trace.net.inputs.items()
    fixed = _is_fixed(trace, name)
    step = shape[0] if fixed else _batch_size(trace, values, batch, shape[0])
    if fixed and len(samples) < step:
        raise BadInput(f"--data: has {len(samples)} samples, fewer than one batch of {step}; give more")
    session = tap(trace.net.model, values, backend)
    kind = input_dtypes(trace.net)[name].numpy()
    for x, _ in samples.batches(step):
        if len(x) == step or not fixed:
            yield len(x), dict(zip(values, session.run({name: x.astype(kind)}), strict=True))


def _is_fixed(trace: Trace, name: str) -> bool:
    """Whether the file fixes the batch size."""
    shape = next(value.shape for value in trace.net.model.graph.inputs if value.name == name)
    return shape is not None and isinstance(shape[0], int)


def _batch_size(trace: Trace, values: Sequence[str], most: int, traced_with: int) -> int:
    """As many samples as can be held at a time."""
    shapes = {value.name: traced.shape for value, traced in trace.values.items()}
    elements = sum(math.prod(shapes[value] or ()) for value in values) // max(1, traced_with)
    return max(1, min(most, _ELEMENTS // max(1, elements)))
