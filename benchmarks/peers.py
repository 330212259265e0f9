"""torch-pruning and onnxsim, run as slimnet is: half of the channels by l1 norm, layer by layer, no rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

RATIO = 0.5


def classifiers(module: nn.Module) -> list[nn.Module]:
    """The layers that give the classes: ignored, for pruners that have to be told."""
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    widths = [m.out_features if isinstance(m, nn.Linear) else m.out_channels for m in layers]
    return [
        layer for layer, width in zip(layers, widths, strict=True) if width == widths[-1] and width in (10, 21, 1000)
    ]


def magnitude_pruner(module: nn.Module, example: torch.Tensor) -> Any:
    """torch-pruning's MagnitudePruner with p=1."""
    import torch_pruning

    return torch_pruning.pruner.MagnitudePruner(
        module,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=RATIO,
        ignored_layers=classifiers(module),
    )


def example(network: Any) -> torch.Tensor:
    """An input of a network of the walk."""
    return torch.zeros(network.input, dtype=torch.int64) if "int" in network.spec else torch.randn(network.input)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
