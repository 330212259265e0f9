"""Walk the graph once and label every index of every axis.

The walk evaluates shape arithmetic on the way (with concrete input sizes), asks each node's rule which labels are the
same, and keeps what surgery will need: where each label is used by a parameter, and which integers count it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput, SlimnetError
from slimnet.common.files import essence
from slimnet.common.inputs import sizes, specs
from slimnet.common.memory import check_size
from slimnet.graph.axes import Bools, Labels, fixed, is_live, signed
from slimnet.graph.choice import PREFERENCES
from slimnet.graph.edits import Settle
from slimnet.graph.evaluate import CannotEvaluate, evaluate, moved, subgraphs
from slimnet.graph.nested import follow
from slimnet.graph.net import Net
from slimnet.graph.op import Axes, Malformed, Op, Traced, Unsupported
from slimnet.graph.parameters import ParameterAxis, Role, Use
from slimnet.graph.registry import Trait, entry_of, traits_of
from slimnet.graph.resolve import resolve
from slimnet.graph.shapes import Shapes
from slimnet.graph.units import Trace
from slimnet.graph.walk import Walk

#: Says which indices of a tensor's axis hold nothing but zeros.
Zeros: TypeAlias = Callable[[ParameterAxis], Bools]


def trace(net: Net, allow_inexact: bool = False, prefer: str | None = None) -> Trace:
    """Find which channels of a network belong together.

    Args:
        net: The dense network.
        allow_inexact: Whether to follow channels through LayerNorm, Softmax and means over them, where removing zeros
            changes the result; verification then accounts for it.
        prefer: "heads" or "head-dims" overrides how an axis that is reshaped into a grid is cut.

    Returns:
        Groups of removable units, what is pinned and why, and what surgery needs.
    """
    return resolve(net, Tracer(net, allow_inexact).run(), allow_inexact, prefer)


def cuts(net: Net, allow_inexact: bool = False) -> list[Trace]:
    """The trace of a network, and those that differ because grids (heads, conv groups) are cut along other axes."""
    walk = Tracer(net, allow_inexact).run()
    found = [resolve(net, walk, allow_inexact)]
    for prefer in PREFERENCES if walk.constraints.grids else ():
        traced = trace(net, allow_inexact, prefer)
        if not any(_cut_alike(traced, other) for other in found):
            found.append(traced)
    return found


def current(traced: Trace) -> Trace:
    """The trace of a network as it is now: its weights may follow a module that has been changed.

    What a trace knows does not depend on weights, but on what shapes, indices and scalars are computed from. Where such
    a constant has changed, the network is traced again.

    Raises:
        BadInput: Then other units would be removable.
    """
    read = traced._graph.walk.read
    changed = [str(value.name) for value, data in read.items() if _bytes(value.const_value) != data.tobytes()]
    if not changed:
        return traced
    now = trace(traced.net, traced.allow_inexact, traced.prefer)
    if not _cut_alike(now, traced):
        names = ", ".join(changed[:3])
        raise BadInput(
            f"{traced.net.name}: {names} changed since the network was traced, and with it what can be removed; trace "
            "it again and make a new plan"
        )
    return now


def _bytes(tensor: ir.TensorProtocol | None) -> bytes:
    return b"" if tensor is None else np.asarray(tensor.numpy()).tobytes()


def known_values(net: Net) -> dict[ir.Value, npt.NDArray[Any]]:
    """The values that are known before the network runs, however large its inputs are."""
    values = Tracer(net).run().values
    return {v: t.data for v, t in values.items() if t.data is not None and t.dynamic is None}


def _cut_alike(a: Trace, b: Trace) -> bool:
    return np.array_equal(a._graph.unit_of_label, b._graph.unit_of_label)


#: How the reason begins where a rule raised what it should not.
RULE_FAILED = "its rule failed"


class Tracer:
    """State of one walk over the graph; `run` takes it."""

    def __init__(self, net: Net, allow_inexact: bool = False, zeros: Zeros | None = None) -> None:
        self.net = net
        self.allow_inexact = allow_inexact
        self.zeros = zeros
        self.graph = net.model.graph
        self.walk = Walk()
        #: Weights of rank 1: exporters merge equal ones, so every use gets labels of its own.
        self.vectors: set[ir.Value] = set()
        self.names: set[str] = set()
        self.shapes = Shapes(net)
        #: What messages call the network.
        self.where = net.source or net.name

    # -- the walk ----------------------------------------------------------------------------------------------

    def run(self) -> Walk:
        for value in self.graph.inputs:
            if value.name in self.net.inputs:
                check_size(self.net.inputs[value.name], f"{self.where}: input {value.name}")
                self.walk.values[value] = Traced([fixed(n) for n in self.net.inputs[value.name]], source=value.name)
        for node in self.graph:
            self.visit(node)
        count = len(self.graph.outputs)
        why = "is an output of the network"
        if count > 1:
            why += f", one of {count}; what nothing reads need not be one"
        for output in self.graph.outputs:
            traced = self.value(output)
            for part in traced.items or [traced]:
                for labels in part.axes or ():
                    self.walk.constraints.pin(labels, "output", output.name or "", why)
        return self.walk

    def visit(self, node: ir.Node) -> None:
        if (tensor := _weight_of(node)) is not None:
            self.walk.values[node.outputs[0]] = self.constant(node.outputs[0], tensor)
            return
        inputs = [None if v is None else self.value(v) for v in node.inputs]
        if self.evaluate(node, inputs):
            return
        self.remember_computed(node, inputs)
        if subgraphs(node):
            self.visit_holder(node, inputs)
            return
        op = Op(self, node, inputs, self.shapes.outputs(node, inputs))
        self.check_shapes(op)
        results, why = self.apply(op)
        parameter = bool(inputs) and all(v is None or v.parameter for v in inputs)
        coded = any(v is not None and v.zero is not None for v in inputs)
        computable, source = op.computable, op.source
        for i, (value, result, shape) in enumerate(zip(node.outputs, results, op.out_shapes, strict=False)):
            traced = result if isinstance(result, Traced) else Traced(result)
            # What the file states may be wrong; what follows from the operator is not.
            differs = traced.axes is not None and shape is not None and traced.shape != shape
            if differs and shape is not None and traced.shape != self.shapes.inferred(node, inputs)[i]:
                why = f"its rule gave shape {traced.shape}, the standard says {shape}"
                traced = Traced([fixed(n) for n in shape])
            if traced.items is None and traced.axes is None and shape is not None:
                traced.axes = [fixed(n) for n in shape]
            if op.settled and traced.axes is not None:
                traced.axes = self.settle(node, traced.axes)
            traced.parameter = traced.parameter or parameter
            if (traced.computable, traced.source) != (computable, source):
                traced = replace(traced, computable=computable, source=source)
            if coded and traced.zero is None:
                traced.zero = op.carried_zero
            self.walk.values[value] = traced
        self.pin_rest(op, why)

    def visit_holder(self, node: ir.Node, inputs: list[Traced | None]) -> None:
        """Walk through the graphs that a node holds; where that is not possible, all that they read is pinned."""
        op = Op(self, node, inputs, self.shapes.outputs(node, inputs))
        results, why = follow(self, op), None
        if results is None:
            results, why = [Traced() for _ in node.outputs], "has a subgraph"
            self.pin_captured(op)
        for value, traced, shape in zip(node.outputs, results, op.out_shapes, strict=True):
            if traced.shape is None and shape is not None:
                traced.axes = [fixed(n) for n in shape]
            self.walk.values[value] = traced
        self.pin_rest(op, why)

    def remember_computed(self, node: ir.Node, inputs: Sequence[Traced | None], moved: Collection[int] = ()) -> None:
        """Note constants that the graph computes: surgery writes them down before shapes change.

        Of a vector with dynamic elements the others are written down, unless it is an input that is only moved on.
        """
        for i, (value, traced) in enumerate(zip(node.inputs, inputs, strict=True)):
            if value is None or traced is None or traced.data is None:
                continue
            producer = value.producer()
            if producer is None or producer.op_type == "Constant":
                continue
            if traced.dynamic is None or (i not in moved and not self.is_final(value)):
                self.walk.computed.append((node, i))

    def is_final(self, value: ir.Value) -> bool:
        """Whether the static elements of a vector do not come straight from a Shape, together with dynamic ones."""
        dynamic, producer = self.walk.values[value].dynamic, value.producer()
        if dynamic is None or dynamic.all() or producer is None:
            return True
        return producer.op_type == "Concat" and all(v is None or self.is_final(v) for v in producer.inputs)

    def apply(self, op: Op) -> tuple[Sequence[Axes | Traced | None], str | None]:
        """Run the rule of a node; the reason why its inputs are pinned, if they are."""
        nothing: list[Axes | Traced | None] = [None] * len(op.node.outputs)
        domain = op.node.domain
        entry = entry_of(op.node)
        if entry is None or entry.rule is None:
            return nothing, f"has no rule{f' (domain {domain})' if domain else ''}"
        counting = any(v is not None and v.positions is not None for v in op.values)
        if counting and Trait.READS_POSITIONS not in entry.traits:
            return nothing, "reads positions in all channels, such as where a pooling found its maxima"
        try:
            return entry.rule(op), None
        except Unsupported as reason:
            return nothing, str(reason)
        except Malformed as reason:
            raise BadInput(
                f"{self.where}: node {op.name} ({op.kind}): {reason}; give other `inputs`, or export the model again"
            ) from reason
        except (SlimnetError, MemoryError):
            raise
        except Exception as error:
            # Whatever a rule did not expect, nothing goes that the node reads. The runtime refuses what is malformed.
            return nothing, f"{RULE_FAILED} ({type(error).__name__}: {essence(error)})"

    def check_shapes(self, op: Op) -> None:
        """Refuse what a node can only make where it is malformed, or the inputs have the wrong size.

        Raises:
            BadInput: An output has a negative size, or is larger than memory.
        """
        for shape in op.out_shapes:
            what = f"{self.where}: the output of node {op.name} ({op.kind})"
            if shape is not None and min(shape, default=0) < 0:
                given = ", ".join(specs(self.net.inputs))
                raise BadInput(
                    f"{what} would have the shape {sizes(shape)} where the inputs are {given}; give larger `inputs`, "
                    "or export the model again"
                )
            check_size(shape or (), what)

    def pin_rest(self, op: Op, why: str | None) -> None:
        """Pin what the rule did not take; all axes of all inputs if it gave up."""
        for i, value in enumerate(op.values):
            if value is None:
                continue
            for traced in value.items if value.items is not None else [value]:
                if why is not None:
                    axes = op.peek(i) if traced is value and traced.shape is not None else traced.axes or []
                    rest: Sequence[Labels] = axes
                elif i in op.used:
                    rest = [labels for k, labels in enumerate(op.used[i]) if k not in op.taken[i]]
                elif value.data is None and not op.taken[i]:
                    rest = traced.axes or []
                else:
                    rest = []
                for labels in rest:
                    op.pin(labels, why or "reads this axis as a whole")

    def pin_captured(self, op: Op) -> None:
        """Pin the values that a subgraph reads from outside, and all in it that was walked over already."""
        for graph in subgraphs(op.node):
            for inner in graph.all_nodes():
                for i, value in enumerate(inner.inputs):
                    if value is not None and (value in self.walk.values or value.graph is self.graph):
                        self.pin_captured_value(op, inner, i, value)
                for value in inner.outputs:
                    for labels in traced.axes or () if (traced := self.walk.values.get(value)) else ():
                        op.pin(labels, "is computed in a subgraph")

    def pin_captured_value(self, op: Op, inner: ir.Node, i: int, value: ir.Value) -> None:
        traced = self.value(value)
        if traced.data is not None:
            self.walk.captured.setdefault(value, op.node)
        elif traced.axes is not None:
            for labels in self.use(inner, i, traced):
                op.pin(labels, "is read by a subgraph")

    # -- values ------------------------------------------------------------------------------------------------

    def value(self, value: ir.Value) -> Traced:
        """What is known of a value; initializers are read on first sight."""
        traced = self.walk.values.get(value)
        if traced is None:
            tensor = value.const_value if value.producer() is None else None
            traced = Traced() if tensor is None else self.constant(value, tensor)
            self.walk.values[value] = traced
        return traced

    def constant(self, value: ir.Value, tensor: ir.TensorProtocol) -> Traced:
        """A weight gets labels of its own (shared by all uses from rank 2 on); other constants are known data."""
        shape = tuple(tensor.shape.numpy())
        if not _is_weight(tensor, shape):
            data = np.asarray(tensor.numpy())
            if isinstance(tensor, ir.LazyTensor):
                self.walk.read[value] = data = data.copy()
            return Traced(data=data, parameter=True)
        if value.producer() is None and value.graph is not self.graph:
            return Traced([fixed(n) for n in shape], parameter=True)  # see `lift_initializers`
        self.walk.weights[value.name or ""] = shape
        if len(shape) == 1:
            self.vectors.add(value)
            return Traced([fixed(shape[0])], parameter=True, computable=True)
        axes = [self.walk.constraints.fresh(n) for n in shape]
        self.add_axes(axes, ParameterAxis(value.name or "", 0, fixed(0), shape, value))
        return Traced(axes, parameter=True, computable=True)

    def use(self, node: ir.Node, i: int, traced: Traced) -> Axes:
        """Labels of input i at this node; vectors and known constants get their own for every use."""
        value = node.inputs[i]
        assert value is not None
        if traced.data is None and value not in self.vectors:
            if traced.axes is None:
                raise Unsupported("the shape of an input is unknown")
            return traced.axes
        shape = traced.shape
        assert shape is not None
        if traced.dynamic is not None:
            return [fixed(n) for n in shape]
        axes = [self.walk.constraints.fresh(n) for n in shape]
        name = value.name or ""
        if len(value.uses()) > 1 or value.producer() is not None:
            name = f"{name}@{self.node_name(node)}:{i}"
        while name in self.names:
            name += "'"
        self.names.add(name)
        self.add_axes(axes, ParameterAxis(name, 0, fixed(0), shape, value, node, i, traced.data))
        return axes

    def add_axes(self, axes: Axes, pattern: ParameterAxis) -> None:
        """Remember the live axes of a tensor; where actual zeros count, label which indices are zero already."""
        for k, labels in enumerate(axes):
            if is_live(labels):
                axis = replace(pattern, axis=k, labels=labels)
                self.walk.parameter_axes.append(axis)
                if self.zeros is not None:
                    axes[k] = signed(labels, self.zeros(axis))

    def evaluate(self, node: ir.Node, inputs: Sequence[Traced | None]) -> bool:
        """Compute a node whose value is known before the network runs; False if it is not."""
        if node.op_type == "Shape" and inputs and inputs[0] is not None:
            return self.evaluate_shape(node, inputs[0])
        if node.op_type == "CastLike":
            return self.evaluate_cast_like(node, inputs[0])
        if any(v is not None and v.data is None for v in inputs):
            return False
        try:
            results = evaluate(node, [None if v is None else v.data for v in inputs])
        except CannotEvaluate:
            return False
        flags = self.dynamic(node, inputs, results) or [np.zeros((), bool)] * len(results)
        # A weight whose elements are all the same, as in files without their weights, is traced by its rule.
        weight = node.op_type == "ConstantOfShape" and results[0].dtype.kind == "f"
        if weight and (flags[0].any() or results[0].ndim > 1):
            return False
        for value, result, flag in zip(node.outputs, results, flags, strict=False):
            self.walk.values[value] = Traced(data=result, dynamic=flag if flag.any() else None, parameter=True)
        if any(flag.any() for flag in flags):
            passing = range(len(inputs)) if node.op_type == "Concat" else [0] if Trait.MOVES in traits_of(node) else []
            self.remember_computed(node, inputs, passing)
        return True

    def evaluate_cast_like(self, node: ir.Node, traced: Traced | None) -> bool:
        """Only the type of the second input matters, and that is known without its value."""
        like = node.inputs[1]
        dtype = None if like is None else like.dtype
        if traced is None or traced.data is None or dtype is None:
            return False
        data = traced.data.astype(dtype.numpy())
        self.walk.values[node.outputs[0]] = Traced(data=data, dynamic=traced.dynamic, parameter=True)
        return True

    def evaluate_shape(self, node: ir.Node, traced: Traced) -> bool:
        shape, value = traced.shape, node.inputs[0]
        if shape is None or value is None:
            return False
        span = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end"))
        dynamic = self.shapes.dynamic(value, len(shape))
        flags = None if dynamic is None else np.array(dynamic, bool)[span]
        self.walk.values[node.outputs[0]] = Traced(
            data=np.array(shape, np.int64)[span],
            dynamic=flags if flags is not None and flags.any() else None,
            parameter=True,
        )
        return True

    def dynamic(
        self, node: ir.Node, inputs: Sequence[Traced | None], results: Sequence[npt.NDArray[Any]]
    ) -> list[npt.NDArray[np.bool_]] | None:
        """Which elements of the results depend on a dynamic input size; None if none does."""
        given = [v for v in inputs if v is not None and v.data is not None]
        if all(v.dynamic is None for v in given):
            return None
        flags = [np.zeros(v.data.shape, bool) if v.dynamic is None else v.dynamic for v in given]  # type: ignore[union-attr]
        try:
            exact = moved(node, [None if v is None else v.data for v in inputs], flags)
        except CannotEvaluate:
            exact = []
        if exact:
            return exact
        if len(results) == 1 and all(f.ndim == 0 or f.shape == results[0].shape for f in flags):
            return [np.broadcast_to(np.logical_or.reduce(np.broadcast_arrays(*flags)), results[0].shape)]
        return [np.ones(r.shape, bool) for r in results]

    def filled(self, node: ir.Node, shape: tuple[int, ...]) -> Axes:
        """Labels of a large ConstantOfShape: a weight of which every element is the same."""
        value = node.outputs[0]
        axes = [self.walk.constraints.fresh(n) for n in shape]
        self.add_axes(axes, ParameterAxis(value.name or "", 0, fixed(0), shape, value, filler=node))
        return axes

    def settle(self, node: ir.Node, axes: Axes) -> Axes:
        """Labels of an output that stays what the dense weights make it; a mask sets it to zero as it does a weight."""
        value, shape = node.outputs[0], tuple(map(len, axes))
        axes = [signed(labels, True) if is_live(labels) else labels for labels in axes]
        self.walk.edits.append(Settle(node, tuple(axes)))
        self.add_axes(axes, ParameterAxis(value.name or "", 0, fixed(0), shape, value, known=self.walk.values))
        return axes

    # -- bookkeeping -------------------------------------------------------------------------------------------

    def add_role(self, labels: Labels, role: Role, use: Use) -> None:
        if is_live(labels):
            self.walk.roles.append((np.abs(labels[labels != 0]), role, use))

    def node_name(self, node: ir.Node) -> str:
        return node.name or (node.outputs[0].name if node.outputs else None) or node.op_type


def _is_weight(tensor: ir.TensorProtocol, shape: Sequence[int]) -> bool:
    """Floats of more than one element, and quantised matrices, are weights; the rest is arithmetic."""
    if tensor.size <= 1:
        return False
    dtype = tensor.dtype
    if dtype in _FLOATS:
        return True
    return dtype in _QUANTISED and len(shape) >= 2


_FLOATS = {
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
}
_QUANTISED = {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4}


def _weight_of(node: ir.Node) -> ir.TensorProtocol | None:
    """The weight a Constant node holds, if it does: traced like an initializer."""
    tensor = node.attributes.get_tensor("value") if node.op_type == "Constant" else None
    return tensor if tensor is not None and _is_weight(tensor, tensor.shape.numpy()) else None
