"""Regularisers of single weights: each tensor is a term of its own, and small weights become zero in the end."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from slimnet.common.errors import BadInput
from slimnet.methods.threshold import masks_above
from slimnet.methods.training import Masks, TrainingMethod

PARAMETERS = ("all", "weights")


@dataclass
class ElementWise(TrainingMethod):
    """A penalty of alpha * sum over tensors of a measure of their elements.

    Attributes:
        alpha: The strength of the penalty, the same for all tensors.
        threshold: Weights below threshold * std of their tensor become zero in the end.
        absolute: Weights below this become zero in the end, instead of `threshold`; 0 leaves it to that.
        parameters: What is regularised: "all" includes biases and batch norms, as the published scripts do; "weights"
            are only tensors of two axes or more.
    """

    alpha: float = 1e-4
    threshold: float = 0.03
    absolute: float = 0.0
    parameters: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parameters not in PARAMETERS:
            raise BadInput(f"parameters {self.parameters!r} is not known; choose one of: {', '.join(PARAMETERS)}")
        least = 2 if self.parameters == "weights" else 0
        self._tensors = {name: p for name, p in self.params.items() if p.ndim >= least and p.is_floating_point()}
        self._value = 0.0

    @abstractmethod
    def add_to_gradients(self, tensors: list[Tensor], grads: list[Tensor]) -> float:
        """Add alpha * d/dw of the measure to the gradients; return alpha * the measure, summed over the tensors."""

    @torch.no_grad()
    def after_backward(self) -> None:
        # A tensor that has two names is still one term.
        trained = [p for p in dict.fromkeys(self._tensors.values()) if p.grad is not None]
        if trained:
            grads = [p.grad for p in trained if p.grad is not None]
            self._value = self.add_to_gradients([p.detach().float() for p in trained], grads)

    def status(self) -> dict[str, float]:
        masks = self.masks().values()
        kept, every = sum(int(m.sum()) for m in masks), sum(m.numel() for m in masks)
        return {"penalty": self._value, "sparsity": 1 - kept / max(1, every)}

    def masks(self) -> Masks:
        return masks_above(self._tensors, self.threshold, self.absolute)
