"""Attention in exported programs, where torch.onnx has no operator for it: written out as matrix products.

torch.onnx translates `scaled_dot_product_attention` of tensors of four axes only. And a program that was exported on
another kind of device holds views which fit the memory layout of that device's kernel alone.
"""

from collections.abc import Iterator

import torch
from torch.export import ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_VIEW, _RESHAPE = torch.ops.aten.view.default, torch.ops.aten.reshape.default


def has_attention(program: ExportedProgram, of_other_ranks: bool = False) -> bool:
    """Whether a program computes attention; only of tensors that have not four axes, if asked for those."""
    nodes = [node for node in _nodes(program) if node.target is _ATTENTION]
    return any(not of_other_ranks or _ranks(node) != {4} for node in nodes)


def attention_written_out(program: ExportedProgram) -> ExportedProgram:
    """The same program with attention as the matrix products and the softmax that define it.

    The program given is not to be used afterwards.
    """
    for node in _nodes(program):
        if node.target is _VIEW:
            node.target = _RESHAPE  # attention that is written out leaves its values in another order of memory
    written_out = torch.export.default_decompositions()[_ATTENTION]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return program.run_decompositions({_ATTENTION: written_out})


def _nodes(program: ExportedProgram) -> Iterator[torch.fx.Node]:
    """The nodes of a program and of the programs inside it."""
    for graph in program.graph_module.modules():
        if isinstance(graph, torch.fx.GraphModule):
            yield from graph.graph.nodes


def _ranks(node: torch.fx.Node) -> set[int]:
    """The numbers of axes of query, key and value."""
    return {arg.meta["val"].dim() for arg in node.args[:3] if isinstance(arg, torch.fx.Node)}
