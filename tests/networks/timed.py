"""Tiny networks to time."""

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper, parser


def conv_net(channels: int, size: int = 16, batch: int | str = 1) -> ir.Model:
    """Three convolutions (conv0, conv1, conv2) with a Relu each and a classifier (fc)."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for k, width in enumerate([3, channels, channels]):
        weights.append(rng.standard_normal((channels, width, 3, 3), dtype=np.float32))
        nodes.append(helper.make_node("Conv", [value, f"conv{k}.weight"], [f"conv{k}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{k}"], [value := f"relu{k}"]))
    weights.append(rng.standard_normal((channels, 10), dtype=np.float32))
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "fc.weight"], ["y"]))
    names = ["conv0.weight", "conv1.weight", "conv2.weight", "fc.weight"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def from_text(graph: str) -> ir.Model:
    """A model from onnx.parser's syntax; inputs whose names begin with w become random weights."""
    model = ir.from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "own": 1]> {graph}'))
    rng = np.random.default_rng(0)
    for value in [v for v in model.graph.inputs if v.name.startswith("w")]:
        weight = rng.standard_normal(value.shape.numpy(), dtype=np.float32)
        value.const_value = ir.Tensor(weight, name=value.name)
        model.graph.inputs.remove(value)
        model.graph.initializers.add(value)
    return model
