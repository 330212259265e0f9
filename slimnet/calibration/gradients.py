"""Gradients of the loss over a data set, for the criteria that rank weights by them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from slimnet.data.samples import Samples, evenly
from slimnet.io.torch_forward import evaluating

Arrays: TypeAlias = dict[str, npt.NDArray[np.float32]]

#: Elements of the gradients of single samples that are kept in memory at a time: 256 MiB of float32.
_ELEMENTS = 1 << 26


def gradients(module: nn.Module, samples: Samples, batch: int = 256) -> Arrays:
    """The gradient of the mean cross-entropy over all samples, in eval mode.

    Args:
        module: A classifier; it and its `grad`s are left as they are.
        samples: The samples, usually the whole training split.
        batch: The number of samples at a time; the result does not depend on it.

    Returns:
        float32 arrays by parameter name, zero where the loss does not depend on the parameter.
    """
    params = _trained(module)
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in params.items()}
    with evaluating(module):
        for x, y in _on_device(module, samples, batch):
            loss = F.cross_entropy(module(x), y, reduction="sum") / len(samples)
            for name, g in _gradients(loss, params).items():
                total[name] += g
    return _by_all_names(module, total)


def fisher(module: nn.Module, samples: Samples, batch: int = 64, limit: int = 1000) -> Arrays:
    """The diagonal of the empirical Fisher information: the mean of the squared gradients of single samples.

    Args:
        module: A classifier; it is left as it is.
        samples: The samples, usually the training split.
        batch: The number of samples at a time, fewer where their gradients would not fit into memory.
        limit: The largest number of samples that are used, evenly spaced.

    Returns:
        float32 arrays by parameter name.
    """
    params = _trained(module)
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in params.items()}
    few = evenly(samples, limit)
    size = max(1, min(batch, _ELEMENTS // max(1, sum(p.numel() for p in params.values()))))
    with evaluating(module):
        for x, y in _on_device(module, few, size):
            for name, square in _squares(module, params, x, y).items():
                total[name] += square / len(few)
    return _by_all_names(module, total)


def _squares(module: nn.Module, params: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The sum of the squared gradients of single samples, by parameter name."""
    fixed = {name: p.detach() for name, p in (*module.named_parameters(), *module.named_buffers())}

    def loss(moving: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(module, {**fixed, **moving}, (x[None],)), y[None])

    try:
        single = vmap(grad(loss), in_dims=(None, 0, 0))({name: p.detach() for name, p in params.items()}, x, y)
        return {name: g.float().square().sum(0) for name, g in single.items()}
    except RuntimeError:  # a forward that vmap cannot follow: one that looks at values, or writes in place
        total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in params.items()}
        for k in range(len(x)):
            alone = F.cross_entropy(module(x[k : k + 1]), y[k : k + 1])
            for name, g in _gradients(alone, params).items():
                total[name] += g.float().square()
        return total


def _gradients(loss: Tensor, params: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    return {name: g for name, g in zip(params, found, strict=True) if g is not None}


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def _by_all_names(module: nn.Module, values: dict[str, Tensor]) -> Arrays:
    """Arrays by every name of every parameter: tied ones have several."""
    first = {p: name for name, p in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: values[first[p]].cpu().numpy() for name, p in every if first[p] in values}


def _on_device(module: nn.Module, samples: Samples, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(module.parameters()).device
    for x, y in samples.batches(size):
        yield torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
