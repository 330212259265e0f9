"""The accuracy of a module on a split, and batch-norm statistics estimated anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from slimnet.common.torch_private import BATCH_NORM
from slimnet.data.samples import Samples

#: The batch size, in samples, where nothing but memory depends on it.
BATCH = 256


@torch.no_grad()
def accuracy(module: nn.Module, samples: Samples) -> float:
    """The fraction of samples whose largest output is their class; the module is in eval mode afterwards."""
    module.eval()
    device = next(module.parameters()).device
    correct = 0
    for x, y in samples.batches(BATCH):
        correct += int((module(torch.from_numpy(x).to(device)).argmax(1).cpu() == torch.from_numpy(y)).sum())
    return correct / len(samples)


@torch.no_grad()
def estimate_batch_norm(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], count: int) -> None:
    """Replace running statistics by the plain average over some batches."""
    norms = [m for m in module.modules() if isinstance(m, BATCH_NORM) and m.track_running_stats]
    if not norms or not count:
        return
    momentum = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # torch's way to ask for a cumulative average
    module.train()
    for _, (x, _) in zip(range(count), batches, strict=False):
        module(x)
    for m, old in zip(norms, momentum, strict=True):
        m.momentum = old
