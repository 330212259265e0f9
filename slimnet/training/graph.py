"""Trained weights on their way from a module into graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import nn

from slimnet.graph.net import Net
from slimnet.graph.parameters import set_weights
from slimnet.io.torch_export import export_torch
from slimnet.io.torch_slim import slim_module_survives
from slimnet.io.torch_weights import following
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT


def arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers of a module by name, copied."""
    return {name: t.detach().cpu().numpy().copy() for name, t in module.state_dict().items()}


def with_weights(model: ir.Model, arrays: Mapping[str, Any]) -> ir.Model:
    """A copy of a graph whose initializers have the values of these arrays, where name and shape agree."""
    copy = model.clone()
    tensors = {name: value.const_value for name, value in copy.graph.initializers.items() if name in arrays}
    set_weights(copy, {name: arrays[name] for name, tensor in tensors.items()
                       if tensor is not None and tuple(tensor.shape.numpy()) == arrays[name].shape})  # fmt: skip
    return copy


def refreshed(net: Net, module: nn.Module, backend: Backend = DEFAULT) -> Net:
    """A network that follows another module of the same class, such as a trained copy.

    Its graph reads the weights by name. Should that not give what the module computes, as `backend` runs it, because
    the graph holds values that were computed from weights, the module is exported anew.
    """
    assert net.torch is not None, "only networks from PyTorch are trained"
    source = replace(net.torch, module=module.cpu().eval())
    model = following(net.model, module)
    same, _ = slim_module_survives(source.module, model, random_inputs(net, net.inputs), backend)
    return replace(net, model=model, torch=source) if same else export_torch(source, net.name, net.source)
