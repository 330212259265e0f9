"""Transformed l1: between counting weights and adding them up (Zhang and Xin 2018; Ma et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slimnet.common import torch_private as private
from slimnet.common.errors import BadInput
from slimnet.methods.elementwise import ElementWise


@dataclass
class TransformedL1(ElementWise):
    """Transformed l1: alpha * sum of (a + 1)|w| / (a + |w|), from the number of weights (a to 0) to their l1 norm.

    The published alpha is 2e-5, and the threshold 0.3 for LeNet-300-100 and 0.6 for LeNet-5.

    Attributes:
        a: The shape of the penalty, positive.
    """

    alpha: float = 2e-5
    threshold: float = 0.3
    a: float = 1.0

    def __post_init__(self) -> None:
        if not self.a > 0:
            raise BadInput(f"transformed-l1: a={self.a:g} must be positive")
        super().__post_init__()

    def add_to_gradients(self, tensors: list[Tensor], grads: list[Tensor]) -> float:
        """The derivative is a (a + 1) sgn(w) / (a + |w|)^2; zeros stay zero."""
        absolute = private.foreach_abs(tensors)
        shifted = private.foreach_add(absolute, self.a)
        parts = [part.sum() for part in private.foreach_div(absolute, shifted)]
        step = private.foreach_sign(tensors)
        private.foreach_mul_(shifted, shifted)
        private.foreach_div_(step, shifted)
        private.foreach_mul_(step, self.alpha * self.a * (self.a + 1))
        private.foreach_add_(grads, step)
        return self.alpha * (self.a + 1) * float(torch.stack(parts).sum())
