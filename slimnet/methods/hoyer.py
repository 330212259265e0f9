"""Hoyer and Hoyer-Square: sparse weights whatever their scale (Yang, Wen, Li 2020, "DeepHoyer", sections 2 and 3.1).

With L1 = sum |w| and S = sum w^2, both gradients are a positive factor times sgn(w) - (L1/S) w: a step makes a weight
smaller if |w| < S/L1, and larger otherwise. Zeros stay zero, and so does the scale of a tensor: sum w * gradient = 0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from slimnet.common import torch_private as private
from slimnet.methods.elementwise import ElementWise
from slimnet.methods.parameter_groups import NOTHING


@dataclass
class _Hoyer(ElementWise):
    @abstractmethod
    def measure(self, l1: float, s: float) -> tuple[float, float]:
        """The measure of one tensor with L1 and S, and the factor of its gradient."""

    def add_to_gradients(self, tensors: list[Tensor], grads: list[Tensor]) -> float:
        # Not torch's norm of a list of tensors, which adds up one by one on a CPU: 3 % off for 2e7 weights.
        sums = torch.stack([torch.stack([w.abs().sum(), w.square().sum()]) for w in tensors])
        value, along_sign, along_weight = 0.0, [], []
        for l1, s in sums.tolist():
            measure, factor = self.measure(l1, s) if s > NOTHING else (0.0, 0.0)
            value += self.alpha * measure
            along_sign.append(self.alpha * factor)
            along_weight.append(-self.alpha * factor * l1 / s if s > NOTHING else 0.0)
        step = private.foreach_sign(tensors)
        private.foreach_mul_(step, along_sign)
        private.foreach_add_(step, private.foreach_mul(tensors, along_weight))
        private.foreach_add_(grads, step)
        return value


@dataclass
class HoyerSquare(_Hoyer):
    """Hoyer-Square: alpha * sum over tensors of (sum |w|)^2 / sum w^2, between 1 and the number of elements.

    The published alpha is 2e-4 for LeNet-300-100, 1e-4 for LeNet-5 and 1e-6 for AlexNet.
    """

    alpha: float = 1e-4
    threshold: float = 0.03

    def measure(self, l1: float, s: float) -> tuple[float, float]:
        return l1 * l1 / s, 2 * l1 / s


@dataclass
class Hoyer(_Hoyer):
    """Hoyer: alpha * sum over tensors of sum |w| / sqrt(sum w^2), as in Hoyer (2004) but not normalised.

    The published alpha and threshold are 0.02 and 0.05 for LeNet-300-100, 0.01 and 0.08 for LeNet-5.
    """

    alpha: float = 0.01
    threshold: float = 0.05

    def measure(self, l1: float, s: float) -> tuple[float, float]:
        return l1 / s**0.5, s**-0.5
