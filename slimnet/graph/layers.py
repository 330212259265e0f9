"""What a layer is called, and how many multiply-adds it takes."""

from __future__ import annotations

import re

import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.registry import names_a_layer
from slimnet.graph.units import Trace

_EXPORTER_NAME = re.compile(r"val_\d+")


_SCOPES = "pkg.torch.onnx.name_scopes"


def layer_name(node: ir.Node) -> str:
    """The name of the layer that `node` computes: the same in the dense and in the slim model.

    That is its weight's name without ".weight"; for a node without one, or whose weight the torch exporter has
    rewritten and renamed, the module and function it was exported from, else the name of its first output.
    """
    for value in node.inputs:
        if value is not None and value.const_value is not None and len(value.const_value.shape) > 1:
            if value.name and not _EXPORTER_NAME.fullmatch(value.name):
                return value.name.removesuffix(".weight")
            break
    if _SCOPES in node.metadata_props:
        return "/".join(re.findall(r"'([^',]+)'", node.metadata_props[_SCOPES])[-2:])
    return node.outputs[0].name or node.name or node.op_type


def is_layer(op_type: str) -> bool:
    """Whether an op, the model's or the runtime's own, multiplies and sums: a layer, as opposed to glue."""
    return names_a_layer(op_type)


def macs_by_layer(traced: Trace, removed: Bools | None = None) -> dict[str, int]:
    """Multiply-adds by the layer names that the profiler uses."""
    out: dict[str, int] = {}
    for node, count in traced.macs(removed).items():
        out[layer_name(node)] = out.get(layer_name(node), 0) + count
    return out
