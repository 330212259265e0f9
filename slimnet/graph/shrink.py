"""Remove what is already zero: channels that some tool, or some regulariser, has masked.

The trace is run with actual zeros instead of hypothetical ones: an index is labelled zero where its weights hold
nothing but zeros. Then the same rules find, at every contraction, whether what arrives is provably zero or meets zero
weights. A unit that passes everywhere can be removed without changing any output. That may leave new zeros behind, so
it is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.evaluate import constant_of_shape
from slimnet.graph.net import Net
from slimnet.graph.parameters import ParameterAxis, Role
from slimnet.graph.resolve import resolve
from slimnet.graph.rules.linear import Contraction, contraction
from slimnet.graph.trace import Tracer, cuts
from slimnet.graph.units import Group, Trace

#: Runs a model for some of its values: (model, names of values) -> arrays. Given by the caller, which has a runtime.
Probe = Callable[[ir.Model, list[str]], list[list[npt.NDArray[Any]]]]


@dataclass(frozen=True)
class Shrinkable:
    """What is zero in a network.

    Attributes:
        trace: The trace of the network.
        removed: The units that can be removed without changing the outputs, bool [n_units].
        constant: For each group that has any, by name, the number of units that have only zero filters but leave a
            constant behind (bias or batch norm).
    """

    trace: Trace
    removed: Bools
    constant: dict[str, int]


def shrinkable(net: Net, assume_masked: bool = False) -> Shrinkable:
    """Find the units of a network that are zero already.

    Args:
        net: The network, with zeros in its weights.
        assume_masked: Whether to remove also units whose filters are all zero although bias or batch norm leave a
            constant; that changes the outputs.
    """
    found = [_shrinkable(dense, assume_masked) for dense in cuts(net)]
    return min(found, key=lambda f: f.trace.parameters(f.removed))


def _shrinkable(dense: Trace, assume_masked: bool) -> Shrinkable:
    removed = np.zeros(dense.n_units, bool)
    if assume_masked:
        removed = dense.never_empty(_zero_filters(dense))
    while True:
        more = _joined(dense, removed, _provable(dense, removed))
        if np.array_equal(more, removed):
            break
        removed = more
    left = _zero_filters(dense) & ~removed
    constant = {g.name: int(left[g.units].sum()) for g in dense.groups}
    return Shrinkable(dense, removed, {name: n for name, n in constant.items() if n})


def _joined(dense: Trace, removed: Bools, more: Bools) -> Bools:
    """The units removed so far and more, but no axis as a whole: the one that stays is read, and must be right."""
    joined = removed | more
    for axis in dense.axes:
        if (axis.units >= 0).all() and joined[axis.units].all():
            joined[axis.units[~removed[axis.units]][:1]] = False
    return joined


def _provable(dense: Trace, removed: Bools) -> Bools:
    """Units that can be removed once `removed` are."""
    kept = {axis.key: dense.kept(*axis.key, removed) for axis in dense.parameter_axes}

    def zeros(axis: ParameterAxis) -> Bools:
        cut = ~kept[axis.key] if axis.key in kept else np.zeros(len(axis.labels), bool)
        return cut | _zero_slices(dense, axis, kept)

    actual = resolve(dense.net, Tracer(dense.net, zeros=zeros).run(), prefer=dense.prefer)
    # Labels are numbered in the order of the walk, which is the same for both traces; how grids are cut may differ.
    unit_of_label, other = dense._graph.unit_of_label, actual._graph.unit_of_label
    pinned = other < 0
    while True:
        more = np.isin(unit_of_label, unit_of_label[pinned]) | np.isin(other, other[pinned])
        if np.array_equal(more, pinned):
            break
        pinned = more
    free = np.zeros(dense.n_units, bool)
    free[unit_of_label[~pinned]] = True
    return free


def _zero_slices(dense: Trace, axis: ParameterAxis, kept: dict[tuple[str, int], Bools]) -> Bools:
    """Which indices of an axis hold only (represented) zeros, looking at what is kept along the other axes."""
    if axis.filler is not None:
        return np.full(len(axis.labels), not constant_of_shape(axis.filler).any())
    array = axis.array
    zero, along = dense.zero_of(axis.value)
    if zero.ndim and along is not None:
        zero = np.expand_dims(zero.ravel(), tuple(k for k in range(array.ndim) if k != along))
    nonzero = array != zero
    others = [k for k in range(array.ndim) if k != axis.axis]
    for k in others:
        if (part := kept.get((axis.name, k))) is not None and not part.all():
            nonzero = nonzero.compress(part, k)
    return ~nonzero.any(axis=tuple(others))


def _zero_filters(dense: Trace) -> Bools:
    """Units of which every producing weight is zero."""
    zero = np.zeros(dense.n_units, bool)
    axes = {axis.key: axis for axis in dense.parameter_axes}
    found: dict[tuple[str, int], Bools] = {}
    for group in dense.groups:
        flags = np.ones(len(group), bool)
        for member in group.members:
            if not member.role & Role.OUT:
                continue
            key = (member.tensor, member.axis)
            if key not in found:
                found[key] = _zero_slices(dense, axes[key], {})
            flags &= found[key][member.index].all(axis=1)
        zero[group.units] = flags
    return zero


# -- absorbing constants ---------------------------------------------------------------------------------------------


def absorb(net: Net, probe: Probe) -> tuple[Net, int]:
    """Fold the constants that zero filters leave behind into the biases of the layers that read them.

    A channel whose filter is zero is the same everywhere and always; what a layer without padding makes of it is a
    constant, which goes into its bias, and its `in` slice becomes zero. Then the channel can be removed.

    Args:
        net: A network with zero filters.
        probe: A function that runs the model on at least two different inputs and returns the named values for each.

    Returns:
        The network with changed weights, and the number of (layer, channel) pairs folded.
    """
    found = shrinkable(net)
    dense = found.trace
    dead = _zero_filters(dense) & ~found.removed
    # A layer inside a branch or a loop keeps its constants: it may run for some inputs only.
    readers = [reader for reader in _readers(dense, dead) if reader.node.graph is net.model.graph]
    if not readers:
        return net, 0
    names = list(dict.fromkeys(reader.source for reader in readers))
    samples = probe(net.model, names)
    values = {name: [sample[k] for sample in samples] for k, name in enumerate(names)}
    copy = net.model.clone()
    nodes = dict(zip(net.model.graph, copy.graph, strict=True))
    folded = sum(_fold(copy, nodes[reader.node], reader, values[reader.source]) for reader in readers)
    return replace(net, model=copy), folded


@dataclass(frozen=True)
class _Reader:
    """A layer that reads dead channels: the value it reads, and which input channels of its weight they are.

    Without padding and groups, a channel that is constant gives a constant output.
    """

    node: ir.Node
    source: str
    weight: str
    how: Contraction
    channels: npt.NDArray[np.int64]


def _readers(dense: Trace, dead: Bools) -> list[_Reader]:
    readers = []
    axes = {axis.key: axis for axis in dense.parameter_axes}
    for group in dense.groups:
        units = dead[group.units]
        if units.any():
            readers += _readers_of(group, units, axes)
    return readers


def _readers_of(group: Group, units: Bools, axes: dict[tuple[str, int], ParameterAxis]) -> list[_Reader]:
    readers = []
    for member in group.members:
        value = axes[member.tensor, member.axis].value
        if not member.role & Role.IN or member.role & Role.OUT or value.producer() is not None:
            continue
        for node, place in value.uses():
            source, how = node.inputs[0], contraction(node, place)
            if place != 1 or source is None or how is None:
                continue
            if not how.padded and len(value.uses()) == 1:
                channels = member.index[units].ravel()
                readers.append(_Reader(node, source.name or "", member.tensor, how, channels))
    return readers


def _fold(copy: ir.Model, node: ir.Node, reader: _Reader, samples: list[npt.NDArray[Any]]) -> int:
    """Add what constant channels contribute to the bias of one layer, and set their weights to zero."""
    how = reader.how
    lines = [np.moveaxis(s, how.data_axis, 0).reshape(s.shape[how.data_axis], -1)[reader.channels] for s in samples]
    level = lines[0][:, :1]
    constant = np.logical_and.reduce([(line == level).all(axis=1) for line in lines])
    channels, level = reader.channels[constant], level[constant, 0]
    value = copy.graph.initializers[reader.weight]
    tensor = value.const_value
    if not len(channels) or tensor is None:
        return 0
    weight = np.array(tensor.numpy())
    taken = weight.take(channels, how.weight_axis)
    outside = tuple(k for k in range(weight.ndim) if k not in (how.weight_axis, how.filter_axis))
    per_channel = taken.sum(axis=outside)
    alpha = node.attributes.get_float("alpha", 1.0)
    shift = alpha * (level @ per_channel if how.weight_axis < how.filter_axis else per_channel @ level)
    weight[(slice(None),) * how.weight_axis + (channels,)] = 0
    value.const_value = ir.Tensor(weight, tensor.dtype, name=value.name)
    _add_to_bias(copy, node, shift.astype(weight.dtype), tensor.dtype)
    return len(channels)


def _add_to_bias(copy: ir.Model, node: ir.Node, shift: npt.NDArray[Any], dtype: ir.DataType) -> None:
    if node.op_type == "MatMul":
        _add_to_sum(copy, node, shift, dtype)
        return
    old = node.inputs[2] if len(node.inputs) > 2 else None
    if old is not None and (old.const_value is None or old.producer() is not None):
        _insert_add(copy, node, shift, dtype)
        return
    beta = node.attributes.get_float("beta", 1.0)
    base = 0.0 if old is None or old.const_value is None else beta * old.const_value.numpy()
    if "beta" in node.attributes:
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    bias = _initializer(copy, f"{node.outputs[0].name}_bias", (base + shift).astype(shift.dtype), dtype)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, bias)


def _add_to_sum(copy: ir.Model, node: ir.Node, shift: npt.NDArray[Any], dtype: ir.DataType) -> None:
    """A matrix product has no bias of its own, but often a vector is added to it."""
    for user, place in node.outputs[0].uses():
        other = user.inputs[1 - place] if user.op_type == "Add" and len(node.outputs[0].uses()) == 1 else None
        tensor = None if other is None or other.producer() is not None else other.const_value
        if tensor is not None and tuple(tensor.shape.numpy()) == shift.shape:
            bias = _initializer(copy, f"{user.outputs[0].name}_bias", tensor.numpy() + shift, dtype)
            user.replace_input_with(1 - place, bias)
            return
    _insert_add(copy, node, shift, dtype)


def _insert_add(copy: ir.Model, node: ir.Node, shift: npt.NDArray[Any], dtype: ir.DataType) -> None:
    raw = node.outputs[0]
    users, name = list(raw.uses()), raw.name
    raw.name = f"{name}_without_constant"
    rank = len(node.inputs[1].shape or ()) if node.inputs[1] is not None else 2
    column = shift.reshape(-1, *([1] * (rank - 2)))
    add = ir.node("Add", [raw, _initializer(copy, f"{name}_constant", column, dtype)])
    add.outputs[0].name, add.outputs[0].shape, add.outputs[0].type = name, raw.shape, raw.type
    copy.graph.insert_after(node, add)
    for user, place in users:
        user.replace_input_with(place, add.outputs[0])
    outputs = copy.graph.outputs
    outputs[:] = [add.outputs[0] if value is raw else value for value in outputs]


def _initializer(copy: ir.Model, name: str, array: npt.NDArray[Any], dtype: ir.DataType) -> ir.Value:
    while name in copy.graph.initializers:
        name += "_"
    tensor = ir.Tensor(array, dtype, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(dtype), const_value=tensor)
    copy.graph.register_initializer(value)
    return value
