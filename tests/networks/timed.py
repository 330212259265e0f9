"""Tiny networks to time."""

import numpy as np
import onnx_ir as ir
from onnx import parser


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
