"""What a module is worth on a split, and batch-norm statistics estimated anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from slimnet.errors import BadInput
from slimnet.io.data import Samples

#: Samples per batch where nothing but memory depends on it.
BATCH = 256


@torch.no_grad()
def accuracy(module: nn.Module, samples: Samples) -> float:
    """Fraction of samples whose largest output is their class; the module is in eval mode afterwards."""
    module.eval()
    device = next(module.parameters()).device
    hits = 0
    for x, y in samples.batches(BATCH):
        hits += int((module(torch.from_numpy(x).to(device)).argmax(1).cpu() == torch.from_numpy(y)).sum())
    return hits / len(samples)


def check_classes(module: nn.Module, samples: Samples, data: str) -> None:
    """Refuse labels that the network has no output for.

    Raises:
        BadInput: the network does not run on the samples, is no classifier, or has too few outputs.
    """
    x, _ = samples.__getitems__([0])
    try:
        with torch.no_grad():
            output = module.eval()(torch.from_numpy(x).to(next(module.parameters()).device))
    except RuntimeError as error:
        raise BadInput(
            f"--data {data}: the network does not run on samples of shape {list(x.shape[1:])}: {error}"
        ) from None
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise BadInput(f"--data {data}: training needs a network whose output is one vector of class scores a sample")
    classes = int(samples.y.max()) + 1
    if classes > output.shape[1]:
        raise BadInput(
            f"--data {data}: has {classes} classes, and the network {output.shape[1]} outputs; give the data it was "
            "trained on, or another --arch, such as ...?num_classes=N"
        )


@torch.no_grad()
def estimate_batch_norm(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], count: int) -> None:
    """Replace running statistics by the plain average over some batches."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
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
