"""What slimnet uses of torch although torch does not promise to keep it; no other module may.

Each has a test of its own in tests/common/test_torch_private.py, which says what stops working when it is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind
from torch.utils import _pytree

_log = logging.getLogger(__name__)

#: The class that every convolution derives from, transposed ones and those of other libraries among them.
CONVOLUTION = nn.modules.conv._ConvNd
#: The class that every batch norm derives from.
BATCH_NORM = nn.modules.batchnorm._BatchNorm
#: The class that every batch norm and every instance norm derives from.
CHANNEL_NORM = nn.modules.batchnorm._NormBase

#: The class of tensors that stand for others while torch traces, and hold no numbers.
FAKE_TENSOR = FakeTensor

# Arithmetic on whole lists of tensors with few kernels, as torch's own optimizers do it.
foreach_abs = torch._foreach_abs
foreach_add = torch._foreach_add
foreach_add_ = torch._foreach_add_
foreach_div = torch._foreach_div
foreach_div_ = torch._foreach_div_
foreach_mul = torch._foreach_mul
foreach_mul_ = torch._foreach_mul_
foreach_sign = torch._foreach_sign


def tensors_in(values: Any) -> list[torch.Tensor]:
    """The tensors inside nested tuples, lists, dictionaries and outputs, in the order of `torch.export`."""
    return [leaf for leaf in _pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def is_leaf(value: Any) -> bool:
    """Whether torch looks into a value for no tensors: it is one, a number, or of a class that torch does not know."""
    leaves = _pytree.tree_leaves(value)
    return len(leaves) == 1 and leaves[0] is value


def returned_by(program: ExportedProgram) -> Any:
    """What an exported program returns, with empty tensors in place of what it computes, and None of what it does not.

    None as well where a class that holds tensors takes no such.
    """
    outputs = (spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT)
    leaves = [None if isinstance(output.arg, ConstantArgument) else torch.empty(0) for output in outputs]
    try:
        return _pytree.tree_unflatten(leaves, program.call_spec.out_spec)
    except Exception:  # whatever such a class raises
        return None


def drop_constants(program: ExportedProgram) -> None:
    """Leave what is no tensor out of what an exported program returns, in place: torch.onnx takes it for one."""
    (end,) = program.graph.find_nodes(op="output")
    specs = program.graph_signature.output_specs
    kept = [k for k, spec in enumerate(specs) if not isinstance(spec.arg, ConstantArgument)]
    if len(kept) == len(specs):
        return
    end.args = (tuple(end.args[0][k] for k in kept),)
    specs[:] = [specs[k] for k in kept]
    results = [spec for spec in specs if spec.kind == OutputKind.USER_OUTPUT]
    program.module_call_graph[0].signature.out_spec = _pytree.tree_structure([None for _ in results])


@contextmanager
def graphs_logged() -> Iterator[None]:
    """While TorchScript's exporter runs, the pages of graph that it prints past Python's stdout go to the log."""

    def log(*parts: Any) -> None:
        _log.debug("%s", "".join(str(part) for part in parts))

    with mock.patch.object(torch._C, "_jit_onnx_log", log):
        yield
