"""What onnx infers of one node, and of a whole graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

#: What onnx raises where it cannot infer; the last one for operators that it calls deprecated.
FAILURES = (
    *(onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError),
    *(onnx.checker.ValidationError, MemoryError),
)
#: Longer vectors are not taken for lists of sizes.
LONGEST_LIST = 1 << 20


def infer(
    node: ir.Node,
    types: Mapping[str, onnx.TypeProto],
    data: Mapping[str, onnx.TensorProto],
    opsets: Mapping[str, int],
) -> dict[str, onnx.TypeProto]:
    """The types of a standard node's outputs by name, as far as onnx infers them.

    Args:
        node: The node.
        types: The types of its inputs by name, with their shapes.
        data: The inputs that are known constants.
        opsets: The opset versions that the graph imports, by domain.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get("", 1), "")
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.to_proto(node), dict(types), dict(data), opset_imports=imports
        )
    except FAILURES:
        return {}
    return dict(found)


def shape_of(kind: onnx.TypeProto | None) -> tuple[int, ...] | None:
    """The shape of a tensor's type; None where it is not known, or no tensor."""
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def infer_all(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph of a model with the types of its values, as far as onnx infers them; an empty one where that fails."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        # To compute sizes, onnx keeps a number for every element of what might be a list of them, however long it is.
        if all(_length(value) <= LONGEST_LIST for value in inferred.value_info):
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except FAILURES:
        return onnx.GraphProto()
    return inferred


def _length(value: onnx.ValueInfoProto) -> int:
    """The length of a vector; 0 where it is not known, and for anything else."""
    dims = value.type.tensor_type.shape.dim
    return dims[0].dim_value if len(dims) == 1 else 0
