"""A module as a classifier of some data: whether it is one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimnet.common.errors import BadInput
from slimnet.data.samples import Samples
from slimnet.io.torch_forward import evaluating


def check_classes(module: nn.Module, samples: Samples, data: str) -> None:
    """Refuse labels that a network has no output for; the network is left as it is.

    Args:
        module: A classifier.
        samples: The samples that it is to classify.
        data: What the user calls them.

    Raises:
        BadInput: The network does not run on the samples, is no classifier, or has too few outputs.
    """
    x, _ = samples.__getitems__([0])
    try:
        with torch.no_grad(), evaluating(module):
            output = module(torch.from_numpy(x).to(next(module.parameters()).device))
    except RuntimeError as error:
        raise BadInput(
            f"`data` {data}: the network does not run on samples of shape {list(x.shape[1:])}: {error}"
        ) from None
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise BadInput(f"`data` {data}: training needs a network whose output is one vector of class scores a sample")
    classes = int(samples.y.max()) + 1
    if classes > output.shape[1]:
        raise BadInput(
            f"`data` {data}: has {classes} classes, and the network {output.shape[1]} outputs; give the data it was "
            "trained on, or another `arch`, such as ...?num_classes=N"
        )
