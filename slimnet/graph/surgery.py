"""Apply a removal: `mask` sets the removed slices to zero in the dense graph, `slim` takes them out.

Surgery names no operator. It cuts constant tensors where their labels are removed and rewrites the integers that
rules have declared; everything it needs was collected by the trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from slimnet.graph.axes import Bools, Integers, Labels
from slimnet.graph.edits import Edit, Freeze, Inexact, Recount, Renumber, Restep, Settle, Widen
from slimnet.graph.evaluate import subgraphs
from slimnet.graph.op import Traced
from slimnet.graph.parameters import ParameterAxis, Role, computed, set_weights, tensor_of
from slimnet.graph.trace import current
from slimnet.graph.units import Trace

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]
NO_WEIGHTS: Weights = {}

#: Elements of a tensor that is cut block by block, and of a block.
_LARGE, _BLOCK = 1 << 22, 1 << 18


def mask(trace: Trace, removed: Bools, wrap: bool = True, weights: Weights = NO_WEIGHTS) -> ir.Model:
    """The dense network with every slice of the removed units set to zero.

    Zero is the represented zero: quantised weights get their zero point. Scales, running variances and divisors are
    left alone. With `wrap`, nodes that were followed inexactly see the kept channels only. `weights` stand in for
    initializers of the same names and shapes. Weights that follow a module (see `Net`) are those it has now; what is
    returned follows nothing.
    """
    trace = current(trace)
    kept = trace._graph.kept(removed)
    copy = _Copy(trace, weights=weights)
    if removed.any():
        _mask_tensors(copy, kept)
        for edit in trace._graph.walk.edits:
            if isinstance(edit, Inexact) and wrap:
                _wrap(copy, edit, kept[np.abs(edit.labels)], kept[np.abs(edit.filled)])
            elif isinstance(edit, Settle):
                _settle(copy, edit, kept, cut=False)
    return copy.finished()


def slim(trace: Trace, removed: Bools, weights: Weights = NO_WEIGHTS) -> ir.Model:
    """The network without the removed units.

    `weights` stand in for initializers of the same names and shapes. Weights that follow a module (see `Net`) are those
    it has now; what is returned follows nothing.
    """
    trace = current(trace)
    kept = trace._graph.kept(removed)
    copy = _Copy(trace, computed=not removed.any(), weights=weights)
    if removed.any():
        _cut_tensors(copy, kept)
        _freeze_computed(copy)
        for edit in trace._graph.walk.edits:
            _rewrite(copy, edit, kept)
        _annotate(copy, kept)
        RemoveUnusedNodesPass()(copy.model)
    return copy.finished()


class _Copy:
    """A clone of the dense model, with the way from the traced nodes and values to the cloned ones."""

    def __init__(self, trace: Trace, computed: bool = True, weights: Weights = NO_WEIGHTS) -> None:
        """Clone the model; without `computed`, leave out the nodes whose values the trace knows.

        What reads such a value finds an input instead, which has to be replaced by a constant.
        """
        self.trace, self.walk = trace, trace._graph.walk
        dense = trace.net.model
        nodes = list(dense.graph) if computed else _running(trace)
        self.model = dense.clone() if len(nodes) == len(dense.graph) else _part(dense, nodes)
        self.graph = self.model.graph
        every = dense.graph.all_nodes() if len(nodes) == len(dense.graph) else nodes
        self.nodes = dict(zip(every, self.graph.all_nodes(), strict=True))
        self.constants: dict[tuple[str, bytes], ir.Value] = {}
        self.taken = names_of(self.model)
        #: What takes the place of the output of a node that sees a wider axis, see `_widen`.
        self.widened: dict[ir.Value, ir.Value] = {}
        self.weights = weights
        set_weights(self.model, weights)

    def content(self, axis: ParameterAxis) -> Array:
        """The elements of the tensor that an axis belongs to."""
        given = None if axis.data is not None else self.weights.get(axis.value.name or "")
        return axis.array if given is None else given

    def value(self, value: ir.Value) -> ir.Value:
        """The clone of a value, or a constant if the trace knows it and its node was left out."""
        producer = value.producer()
        if producer is not None and producer not in self.nodes:
            data = self.walk.values[value].data
            assert data is not None
            return self.constant(f"{value.name}_value", data)
        if producer is not None:
            return self.nodes[producer].outputs[value.index() or 0]
        return self.graph.initializers[value.name or ""]

    def graphs(self) -> Iterator[tuple[ir.Graph, ir.Graph]]:
        """The graph and the graphs that its nodes hold, each with its clone."""
        yield self.trace.net.model.graph, self.graph
        for node, mine in self.nodes.items():
            yield from zip(subgraphs(node), subgraphs(mine), strict=True)

    def set_tensor(self, value: ir.Value, array: Array, dtype: ir.DataType) -> None:
        """Replace the weight behind an initializer or a Constant node."""
        tensor = ir.Tensor(np.asarray(array, order="C"), dtype, name=value.name)
        producer = value.producer()
        if producer is None:
            mine = self.graph.initializers[value.name or ""]
            mine.const_value = tensor
            mine.shape = ir.Shape(array.shape)
        else:
            node = self.nodes[producer]
            node.attributes["value"] = ir.AttrTensor("value", tensor)
            node.outputs[0].shape, node.outputs[0].type = ir.Shape(array.shape), ir.TensorType(dtype)

    def replace(self, axis: ParameterAxis, array: Array, dtype: ir.DataType) -> None:
        """Give a tensor, or the one use of it that the axis belongs to, a new content."""
        value = axis.value
        alone = value.producer() is None and len(value.uses()) == 1 and not value.is_graph_output()
        if axis.node is None or alone:
            self.set_tensor(value, array, dtype)
        else:
            self.set_input(axis.node, axis.place, self.constant(f"{value.name}_part", array, dtype))

    def constant(self, name: str, array: Array, dtype: ir.DataType | None = None) -> ir.Value:
        """An initializer with this content; equal small ones are made once."""
        dtype = dtype or ir.DataType.from_numpy(array.dtype)
        key = (f"{dtype}{array.shape}", array.tobytes())
        if key not in self.constants:
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            tensor = ir.Tensor(np.asarray(array, order="C"), dtype, name=name)
            value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(dtype), const_value=tensor)
            self.graph.register_initializer(value)
            self.constants[key] = value
        return self.constants[key]

    def set_input(self, node: ir.Node, place: int, value: ir.Value) -> None:
        """Rewire input `place` of the clone of a node, adding optional inputs up to it."""
        mine = self.nodes[node]
        if place >= len(mine.inputs):
            mine.resize_inputs(place + 1)
        mine.replace_input_with(place, value)

    def rewire(self, old: ir.Value, new: ir.Value, users: Iterable[tuple[ir.Node, int]]) -> None:
        """Let these users read another value, which an inner graph also puts out where it put out the old one."""
        for user, place in users:
            user.replace_input_with(place, new)
        graph = old.graph
        if isinstance(graph, ir.Graph) and graph is not self.graph and old.is_graph_output():
            made = new if new.graph is graph else self.insert(graph, "Identity", [new])
            graph.outputs[:] = [made if value is old else value for value in graph.outputs]

    def finished(self) -> ir.Model:
        """The clone, with copies of all weights that would follow a module."""
        for value in self.graph.initializers.values():
            if isinstance(tensor := value.const_value, ir.LazyTensor):
                value.const_value = ir.Tensor(np.array(tensor.numpy()), tensor.dtype, name=value.name)
        return self.model

    def insert(self, before: ir.Node | ir.Graph, op_type: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        """Add a node before another one, or at the end of a graph, and return its output."""
        name = f"{inputs[0].name}_{op_type.lower()}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        node = ir.node(op_type, inputs, attributes)
        node.outputs[0].name = node.name = name
        if inputs[0].dtype is not None:
            node.outputs[0].dtype = inputs[0].dtype
        if isinstance(before, ir.Node):
            graph = before.graph
            assert isinstance(graph, ir.Graph)
            graph.insert_before(before, node)
        else:
            before.append(node)
        return node.outputs[0]


def names_of(model: ir.Model) -> set[str | None]:
    """Every name in use, of values and of nodes, in subgraphs too."""
    graphs = list(model.graphs())
    values = {v.name for graph in graphs for v in (*graph.inputs, *graph.initializers.values())}
    return values | {name for graph in graphs for n in graph for name in (n.name, *(v.name for v in n.outputs))}


def _running(trace: Trace) -> list[ir.Node]:
    """The nodes whose values are not known before the network runs, with the Constant nodes they read."""
    graph = trace.net.model.graph
    known = {
        value
        for value, traced in trace._graph.walk.values.items()
        if traced.data is not None and traced.dynamic is None
    }
    if any(True for _ in graph.subgraphs()) or any(output in known for output in graph.outputs):
        return list(graph)
    running = {node for node in graph if not all(value in known for value in node.outputs)}
    return [
        n
        for n in graph
        if n in running or (n.op_type == "Constant" and any(c in running for c in n.outputs[0].consumers()))
    ]


def _part(model: ir.Model, nodes: list[ir.Node]) -> ir.Model:
    """A clone of some nodes of a model; what they read from the others becomes an input."""
    graph = model.graph
    made = {value for node in nodes for value in node.outputs}
    read = {v: None for node in nodes for v in node.inputs if v is not None and v.producer() is not None}
    view = ir.GraphView(
        [*graph.inputs, *(value for value in read if value not in made)],
        graph.outputs,
        nodes=nodes,
        initializers=list(graph.initializers.values()),
        doc_string=graph.doc_string,
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
        metadata_props=dict(graph.metadata_props),
    )
    return ir.Model(
        view.clone(),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        metadata_props=dict(model.metadata_props),
    )


def _by_value(trace: Trace) -> dict[tuple[ir.Value, ir.Node | None, int], list[ParameterAxis]]:
    """The axes of one tensor, or of one use of it, side by side: each tensor is touched once."""
    found: dict[tuple[ir.Value, ir.Node | None, int], list[ParameterAxis]] = {}
    for axis in trace.parameter_axes:
        found.setdefault((axis.value, axis.node, axis.place), []).append(axis)
    return found


# -- mask ----------------------------------------------------------------------------------------------------------


def _mask_tensors(copy: _Copy, kept: Bools) -> None:
    walk = copy.walk
    for (value, *_), axes in _by_value(copy.trace).items():
        removed = {a.axis: np.flatnonzero(~kept[np.abs(a.labels)]) for a in axes if not a.role & Role.UNTOUCHED}
        removed = {axis: index for axis, index in removed.items() if len(index)}
        if not removed or axes[0].known is not None:
            continue
        if axes[0].filler is not None:
            _mask_filler(copy, axes[0], removed)
            continue
        tensor = None if axes[0].data is not None else tensor_of(value)
        array = np.array(copy.content(axes[0]))
        if tensor is None and array.dtype.kind not in "fV" and value.name not in walk.zero_points:
            continue
        dtype = ir.DataType.from_numpy(array.dtype) if tensor is None else tensor.dtype
        for axis, index in removed.items():
            selection = (slice(None),) * axis + (index,)
            array[selection] = _zero(copy.trace, value, axis, index, array.ndim)
        copy.replace(axes[0], array, dtype)


def represented_zero(trace: Trace, tensor: str) -> Array | None:
    """What a mask writes into a tensor: 0, or the zero point of a quantised one.

    None where no single number does: integers that are no codes of numbers, and zero points that differ.
    """
    walk = trace._graph.walk
    if tensor in walk.zero_points:
        zero_point, _ = walk.zero_points[tensor]
        return zero_point.reshape(-1)[:1].reshape(()) if (zero_point == zero_point.flat[0]).all() else None
    return np.zeros((), np.float32) if trace.params()[tensor].dtype.kind in "fV" else None


def _zero(trace: Trace, value: ir.Value, axis: int, index: Integers, rank: int) -> Array | int:
    """What represents zero in the removed slices of a tensor."""
    zero_point, along = trace.zero_of(value)
    if zero_point.size == 1:
        return zero_point.reshape(()) if zero_point.any() else 0
    assert along is not None
    shape = [1] * rank
    shape[along] = zero_point.size
    full = zero_point.reshape(shape)
    return full.take(index, axis) if along == axis else full


def _mask_filler(copy: _Copy, filled: ParameterAxis, removed: Mapping[int, Integers]) -> None:
    """A ConstantOfShape has no elements to set to zero: multiply it by zeros and ones along each axis."""
    value = copy.value(filled.value)
    after = _after(copy, value)
    users = list(value.uses())
    current, dtype = value, _dtype(copy, value)
    for axis, index in removed.items():
        ones = np.ones([n if k == axis else 1 for k, n in enumerate(filled.shape)], dtype.numpy())
        ones.reshape(-1)[index] = 0
        current = copy.insert(after, "Mul", [current, copy.constant(f"{filled.name}_mask{axis}", ones, dtype)])
    copy.rewire(value, current, users)


def _after(copy: _Copy, value: ir.Value) -> ir.Node | ir.Graph:
    """The node after the producer of a value, in the order of its graph; the graph itself where none follows."""
    graph = value.graph or copy.graph
    nodes, producer = list(graph), value.producer()
    first = 0 if producer is None else nodes.index(producer) + 1
    return nodes[first] if first < len(nodes) else graph


def _dtype(copy: _Copy, value: ir.Value) -> ir.DataType:
    """Type of a value; where the file does not say, that of the network's weights."""
    if value.dtype is not None:
        return value.dtype
    floats = [v.const_value.dtype for v in copy.graph.initializers.values() if v.const_value is not None]
    return next((d for d in floats if d.is_floating_point()), ir.DataType.FLOAT)


def _wrap(copy: _Copy, edit: Inexact, gathered: Bools, filled: Bools) -> None:
    """Gather(kept), the node, zero-fill: what the node computes when the removed channels are not there."""
    if gathered.all():
        return
    node = copy.nodes[edit.node]
    indices = copy.constant("kept", np.flatnonzero(gathered))
    for place, axis in edit.gather:
        value = node.inputs[place]
        assert value is not None
        node.replace_input_with(place, copy.insert(node, "Gather", [value, indices], axis=axis))
    for place, axis in edit.fill:
        value = node.outputs[place]
        users = list(value.uses())
        rank = len(copy.walk.values[edit.node.outputs[place]].axes or ())
        wide = _filled(copy, _after(copy, value), value, axis, rank, filled)
        copy.rewire(value, wide, users)


def _filled(copy: _Copy, before: ir.Node | ir.Graph, value: ir.Value, axis: int, rank: int, kept: Bools) -> ir.Value:
    """A value that has only what is kept along an axis, with zeros put in for the rest."""
    dtype = _dtype(copy, value)
    position = copy.constant("position", np.maximum(np.cumsum(kept) - 1, 0))
    ones = kept.astype(dtype.numpy()).reshape([-1 if k == axis else 1 for k in range(rank)])
    wide = copy.insert(before, "Gather", [value, position], axis=axis)
    return copy.insert(before, "Mul", [wide, copy.constant("kept_mask", ones, dtype)])


def _settle(copy: _Copy, edit: Settle, kept: Bools, cut: bool) -> None:
    """Make a constant of what a node computes of the dense weights; what is removed is cut out, or set to zero."""
    value = copy.value(edit.node.outputs[0])
    array = computed(edit.node.outputs[0], copy.walk.values, copy.weights)
    for axis, labels in enumerate(edit.axes):
        part = kept[np.abs(labels)]
        if not part.all():
            along = [len(labels) if k == axis else 1 for k in range(array.ndim)]
            array = array.compress(part, axis) if cut else np.where(part.reshape(along), array, array.dtype.type(0))
    name = value.name or ""
    value.name = f"{name}_of_weights"
    copy.taken.discard(name)
    constant = copy.constant(name, array)
    copy.rewire(value, constant, list(value.uses()))


# -- slim ----------------------------------------------------------------------------------------------------------


def _cut_tensors(copy: _Copy, kept: Bools) -> None:
    for (value, *_), axes in _by_value(copy.trace).items():
        parts = {a.axis: kept[np.abs(a.labels)] for a in axes}
        parts = {axis: part for axis, part in parts.items() if not part.all()}
        if not parts or axes[0].filler is not None or axes[0].known is not None:
            continue
        tensor = None if axes[0].data is not None else tensor_of(value)
        array = copy.content(axes[0])
        dtype = ir.DataType.from_numpy(array.dtype) if tensor is None else tensor.dtype
        copy.replace(axes[0], _taken(array, {axis: np.flatnonzero(part) for axis, part in parts.items()}), dtype)


def _taken(array: Array, index: Mapping[int, Integers]) -> Array:
    """Some indices of some axes; large tensors by blocks of rows, so that no copy is made that is cut only half."""
    if array.size <= _LARGE or 0 not in index or len(index) == 1:
        for axis, indices in index.items():
            array = array.take(indices, axis)
        return array
    rows, rest = index[0], {axis: indices for axis, indices in index.items() if axis != 0}
    taken = np.empty([len(index[k]) if k in index else n for k, n in enumerate(array.shape)], array.dtype)
    step = max(1, _BLOCK // array[0].size)
    for first in range(0, len(rows), step):
        taken[first : first + step] = _taken(array[rows[first : first + step]], rest)
    return taken


def _freeze_computed(copy: _Copy) -> None:
    """Write down what was computed from shapes: those shapes are about to change, and only declared integers follow."""
    for node, place in copy.walk.computed:
        value, mine = node.inputs[place], copy.nodes[node].inputs[place]
        if value is not None and mine is not None and mine.const_value is None:
            copy.set_input(node, place, _frozen(copy, value, copy.nodes[node]))
    del copy.graph.inputs[len(copy.trace.net.model.graph.inputs) :]
    for value, node in copy.walk.captured.items():
        if value.producer() is not None:
            frozen = _frozen(copy, value, copy.nodes[node])
            for user, place in list(copy.value(value).uses()):
                if user.graph is not copy.graph:
                    user.replace_input_with(place, frozen)
    for dense, clone in copy.graphs():
        for k, output in enumerate(dense.outputs):
            traced = copy.walk.values.get(output)
            if output.producer() is not None and traced is not None and traced.data is not None:
                _freeze_output(copy, clone, k, output)


def _freeze_output(copy: _Copy, graph: ir.Graph, k: int, output: ir.Value) -> None:
    old, frozen = copy.value(output), _frozen(copy, output, graph)
    new = copy.insert(graph, "Identity", [frozen])
    if graph is copy.graph:
        # The outputs of the network keep their names.
        new.name, old.name = old.name, new.name
    new.shape, new.type = old.shape, old.type
    graph.outputs[k] = new


def _frozen(copy: _Copy, value: ir.Value, before: ir.Node | ir.Graph) -> ir.Value:
    """A computed value with all written down that does not depend on a dynamic input size."""
    traced = copy.walk.values[value]
    assert traced.data is not None
    if traced.dynamic is None:
        return copy.constant(f"{value.name}_value", traced.data)
    static = _static(traced)
    return _patch(copy, value, static, before) if static else copy.value(value)


def _static(traced: Traced) -> dict[int, Any]:
    """Elements of a partly dynamic vector that do not depend on a dynamic input size."""
    assert traced.data is not None
    assert traced.dynamic is not None
    moving = traced.dynamic.ravel()
    return {e: n for e, n in enumerate(traced.data.ravel().tolist()) if not moving[e]}


def _rewrite(copy: _Copy, edit: Edit, kept: Bools) -> None:
    node = copy.nodes[edit.node]
    if isinstance(edit, Recount):
        new = edit.new(kept)
        if edit.old is not None and np.array_equal(new, edit.old) and not isinstance(edit.place, int):
            return
        if isinstance(edit.place, str):
            attribute = (
                ir.AttrInt64(edit.place, int(new.item())) if edit.scalar else ir.AttrInt64s(edit.place, new.tolist())
            )
            node.attributes[edit.place] = attribute
        else:
            _set_integers(copy, edit, edit.place, new)
    elif isinstance(edit, Renumber):
        old = edit.old
        copy.set_input(
            edit.node, edit.place, copy.constant(f"{node.name}_indices", np.asarray(edit.new(kept), old.dtype))
        )
    elif isinstance(edit, Freeze):
        _write_down(copy, edit)
    elif isinstance(edit, Settle):
        _settle(copy, edit, kept, cut=True)
    elif isinstance(edit, Widen):
        _widen(copy, edit, kept[np.abs(edit.labels)], kept[np.abs(edit.out)])
    elif isinstance(edit, Restep) and not kept[np.abs(edit.labels)].all():
        _to_gather(copy, node, edit.axis, edit.indices(kept))


def _write_down(copy: _Copy, edit: Freeze) -> None:
    attributes = copy.nodes[edit.node].attributes
    if isinstance(edit.place, int):
        copy.set_input(edit.node, edit.place, copy.constant("frozen", np.array(edit.value, np.int64)))
    elif isinstance(edit.value, float):
        attributes[edit.place] = ir.AttrFloat32(edit.place, edit.value)
    else:
        attributes[edit.place] = ir.AttrInt64s(edit.place, edit.value)


def _set_integers(copy: _Copy, edit: Recount, place: int, new: npt.NDArray[np.int64]) -> None:
    """Write declared integers into an input; elements that depend on a dynamic size stay computed."""
    node = edit.node
    value = node.inputs[place] if place < len(node.inputs) else None
    traced = None if value is None else copy.walk.values[value]
    if value is not None and traced is not None and traced.dynamic is not None:
        elements = _static(traced) | {e: int(new.ravel()[e]) for e in edit.elements}
        copy.set_input(node, place, _patch(copy, value, elements, copy.nodes[node]))
        return
    if edit.old is not None and np.array_equal(new, edit.old):
        return
    dtype = np.int64 if edit.old is None else edit.old.dtype
    copy.set_input(node, place, copy.constant(f"{copy.nodes[node].name}_sizes", new.astype(dtype)))
    # An explicit list of sizes takes the place of a count of equal parts.
    copy.nodes[node].attributes.pop("num_outputs", None)


def _patch(copy: _Copy, value: ir.Value, elements: Mapping[int, Any], before: ir.Node | ir.Graph) -> ir.Value:
    """A computed integer vector with some elements replaced, following a Concat back to its constants."""
    traced = copy.walk.values[value]
    data = traced.data
    assert data is not None
    if traced.dynamic is None or len(elements) == data.size:
        new = data.copy()
        new.ravel()[list(elements)] = list(elements.values())
        return copy.constant(f"{value.name}_value", new)
    producer = value.producer()
    if producer is not None and producer.op_type == "Concat":
        parts, start = [], 0
        for part in producer.inputs:
            assert part is not None
            size = copy.walk.values[part].data.size  # type: ignore[union-attr]
            mine = {e - start: n for e, n in elements.items() if start <= e < start + size}
            parts.append(_patch(copy, part, mine, before) if mine else copy.value(part))
            start += size
        return copy.insert(before, "Concat", parts, axis=0)
    pieces = []
    for e in range(data.size):
        if e in elements:
            pieces.append(copy.constant(f"{value.name}_{e}", np.array([elements[e]], data.dtype)))
        else:
            index = copy.constant(f"index_{e}", np.array([e], np.int64))
            pieces.append(copy.insert(before, "Gather", [copy.value(value), index], axis=0))
    return copy.insert(before, "Concat", pieces, axis=0)


def _to_gather(copy: _Copy, node: ir.Node, axis: int, index: Integers) -> None:
    data, old = node.inputs[0], node.outputs[0]
    assert data is not None
    new = copy.insert(node, "Gather", [data, copy.constant(f"{node.name}_indices", index)], axis=axis)
    copy.rewire(old, new, list(old.uses()))


def _widen(copy: _Copy, edit: Widen, kept: Bools, out: Bools) -> None:
    """Zero-fill, the node, Gather(kept): what the node computes when the removed channels are zero."""
    if kept.all():
        return
    node = copy.nodes[edit.node]
    value, result = node.inputs[edit.place], node.outputs[0]
    assert value is not None
    rank = len(copy.walk.values[edit.node.outputs[0]].axes or ())
    node.replace_input_with(edit.place, _filled(copy, node, value, edit.axis, rank, kept))
    users = list(result.uses())
    narrow = copy.insert(
        _after(copy, result), "Gather", [result, copy.constant("kept", np.flatnonzero(out))], axis=edit.axis
    )
    copy.rewire(result, narrow, users)
    # What the trace knows of the result is now true of what is gathered of it.
    result.name, narrow.name = narrow.name, result.name
    narrow.shape, result.shape = result.shape, None
    copy.widened[edit.node.outputs[0]] = narrow


def _annotate(copy: _Copy, kept: Bools) -> None:
    """Correct the stated shapes of intermediate values, and leave open what the file states wrongly of any value."""
    for value, traced in copy.walk.values.items():
        if traced.items is not None:
            copy.value(value).shape = None
        if traced.axes is None or value.producer() is None or value.shape is None:
            continue
        mine = copy.widened[value] if value in copy.widened else copy.value(value)
        if mine.shape is None or mine.const_value is not None:
            continue
        stated = list(value.shape) if len(value.shape) == len(traced.axes) else [None] * len(traced.axes)
        mine.shape = ir.Shape([_left(dim, labels, kept) for dim, labels in zip(stated, traced.axes, strict=True)])


def _left(dim: Any, labels: Labels, kept: Bools) -> Any:
    """What to state of an axis, of which the file states a dimension."""
    left = len(labels) if labels.strides == (0,) else int(kept[np.abs(labels)].sum())
    if left != len(labels):
        return left
    return None if isinstance(dim, int) and dim != len(labels) else dim
