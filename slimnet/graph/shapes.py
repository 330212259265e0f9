"""Concrete shapes as the ONNX standard infers them, and which dimensions depend on a dynamic input size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from slimnet.graph.inference import LONGEST_LIST, infer, infer_all, shape_of
from slimnet.graph.net import Net
from slimnet.graph.parameters import constant
from slimnet.graph.registry import Trait, traits_of

if TYPE_CHECKING:
    from slimnet.graph.op import Traced

#: Constants up to this size are passed to the inference as data; shapes and axes are never longer.
_DATA_ELEMENTS = 64
#: A size that a file states beyond this is not believed.
_LARGEST_SIZE = 1 << 31


class Shapes:
    """Answers, for values of one network, the shape at the concrete input sizes of the trace.

    Where the file states a static shape and no input size was changed, that is the answer; else onnx's own
    single-node inference is asked, with the shapes and constants the trace has found so far. What a file states of the
    network's outputs is believed least of all: exporters write it by hand, and runtimes only warn.
    """

    def __init__(self, net: Net) -> None:
        self.model = net.model
        self.static = all(
            v.shape is not None and v.shape.is_static() and tuple(v.shape.numpy()) == net.inputs.get(v.name or "")
            for v in net.model.graph.inputs
            if v.name in net.inputs
        )
        self._types: dict[ir.Value, int] = {}
        self._symbolic: dict[str, tuple[int | None, ...]] | None = None
        self._opsets = dict(net.model.graph.opset_imports)

    def outputs(self, node: ir.Node, inputs: Sequence[Traced | None]) -> list[tuple[int, ...] | None]:
        """Shape of every output of a node, None where it is not known."""
        stated = self._stated(node)
        if None not in stated and not any(v.is_graph_output() for v in node.outputs):
            return stated
        inferred = self.inferred(node, inputs)
        return [said if found is None else found for found, said in zip(inferred, stated, strict=True)]

    def _stated(self, node: ir.Node) -> list[tuple[int, ...] | None]:
        """What the file says of the outputs of a node at these input sizes."""
        shapes = [v.shape if self.static else None for v in node.outputs]
        return [tuple(s.numpy()) if s is not None and s.is_static() else None for s in shapes]

    def inferred(self, node: ir.Node, inputs: Sequence[Traced | None]) -> list[tuple[int, ...] | None]:
        """Shape of every output of a node, whatever the file states; None where it is not known."""
        unknown: list[tuple[int, ...] | None] = [None] * len(node.outputs)
        first = inputs[0] if inputs else None
        if first is not None and first.shape is not None and Trait.POINTWISE in traits_of(node):
            # Asking onnx takes a millisecond, and exporters leave out the shapes of activations.
            assert node.inputs[0] is not None
            self._types[node.outputs[0]] = self._type(node.inputs[0], first)
            return [first.shape]
        if node.domain not in ("", "ai.onnx"):
            return unknown
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for value, traced in zip(node.inputs, inputs, strict=True):
            if value is None or traced is None:
                continue
            if traced.items is not None or traced.shape is None:
                return unknown
            types[value.name or ""] = onnx.helper.make_tensor_type_proto(self._type(value, traced), traced.shape)
            known = _known(value, traced)
            if known is not None:
                data[value.name or ""] = onnx.numpy_helper.from_array(known)
        found = infer(node, types, data, self._opsets)
        for value in node.outputs:
            if (kind := found.get(value.name or "")) is not None and kind.HasField("tensor_type"):
                self._types[value] = kind.tensor_type.elem_type
        return [shape_of(found.get(v.name or "")) for v in node.outputs]

    def _type(self, value: ir.Value, traced: Traced) -> int:
        if value in self._types:
            return self._types[value]
        if traced.data is not None:
            return int(onnx.helper.np_dtype_to_tensor_dtype(traced.data.dtype))
        dtype = value.dtype if value.const_value is None else value.const_value.dtype
        return int(onnx.TensorProto.FLOAT if dtype is None else dtype.value)

    def dynamic(self, value: ir.Value, rank: int) -> list[bool] | None:
        """Which dimensions depend on a dynamic input size; None if none does."""
        if self.static or value.const_value is not None:
            return None
        shape = value.shape
        if shape is not None and len(shape) == rank and shape.is_static():
            return None
        dims = self.symbolic().get(value.name or "")
        if dims is None or len(dims) != rank:
            return [True] * rank
        return [d is None for d in dims] if any(d is None for d in dims) else None

    def symbolic(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of all values with the file's own symbolic input sizes (None where a size is not a number)."""
        if self._symbolic is None:
            self._symbolic = _symbolic(self.model)
        return self._symbolic


def _symbolic(model: ir.Model) -> dict[str, tuple[int | None, ...]]:
    graph = infer_all(skeleton(model))
    return {
        v.name: tuple(d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim)
        for v in [*graph.value_info, *graph.input, *graph.output]
        if v.type.HasField("tensor_type") and v.type.tensor_type.HasField("shape")
    }


def _known(value: ir.Value, traced: Traced) -> npt.NDArray[Any] | None:
    """A small constant; also one that is traced like a weight, such as the scales of a Resize."""
    if traced.data is not None:
        return traced.data if traced.data.size <= _DATA_ELEMENTS else None
    tensor = constant(value)
    return tensor.numpy() if tensor is not None and tensor.size <= _DATA_ELEMENTS else None


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The graph without its large weights, which become inputs: enough for shapes and small enough for a proto."""
    copy = model.clone()
    LiftConstantsToInitializersPass(size_limit=_DATA_ELEMENTS)(copy)
    for value in list(copy.graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and tensor.size > _DATA_ELEMENTS:
            copy.graph.initializers.pop(value.name)  # type: ignore[arg-type]
            value.const_value = None
            value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
            if value not in copy.graph.inputs:
                copy.graph.inputs.append(value)
    proto = ir.to_proto(copy)
    # onnx believes what a file states, and aborts where a size is negative.
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim in dims:
            if not 0 <= dim.dim_value <= (LONGEST_LIST if len(dims) == 1 else _LARGEST_SIZE):
                dim.Clear()
    return proto
