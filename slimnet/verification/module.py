"""Find out whether a PyTorch module still computes what was traced."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from slimnet.common.errors import VerifyFailed
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import index_bounds, random_inputs


def check_module(trace: Trace, backend: Backend) -> None:
    """Compare the traced graph, whose weights follow the module, with the module itself; without one, nothing is done.

    A graph holds more than weights: what `forward` does, and values that were computed while it was exported. Where the
    two differ, the module is exported again; if that gives the same graph, the difference is rounding.

    Raises:
        VerifyFailed: The module was changed in a way that the graph does not follow.
    """
    net = trace.net
    if net.torch is None:
        return
    from slimnet.io.torch_copy import twin
    from slimnet.io.torch_export import export_torch
    from slimnet.io.torch_forward import evaluating
    from slimnet.io.torch_slim import slim_module_survives

    inputs = random_inputs(net, net.inputs, bounds=index_bounds(trace))
    with evaluating(module := twin(net.torch.module)):
        same, why = slim_module_survives(module, net.model, inputs, backend)
    if not same and list(_content(export_torch(net.torch, net.name, net.source).model)) != list(_content(net.model)):
        raise VerifyFailed(f"{net.name}: the module is no longer what was traced ({why}); load and trace it again")


def _content(model: ir.Model) -> Iterator[bytes]:
    """All that decides what a graph computes, piece by piece."""
    for node in model.graph:
        yield ir.to_proto(node).SerializeToString()
    for name, value in model.graph.initializers.items():
        yield name.encode()
        yield b"" if value.const_value is None else np.asarray(value.const_value.numpy()).tobytes()
