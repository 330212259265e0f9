"""What the criteria do to filters of independent Gaussian weights: the paper's CWDA, as formulas.

Huang et al. 2021, "Rethinking the Pruning Criteria for Convolutional Neural Network", Sections 3 and 4. A filter has d
weights of standard deviation sigma and mean 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.special import gammaln


class Moments(NamedTuple):
    """Mean and variance of a score over the filters of a layer."""

    mean: float
    variance: float

    @property
    def relative(self) -> tuple[float, float]:
        """Var / E and Var / E^2."""
        return self.variance / self.mean, self.variance / self.mean**2


def l1(sigma: float, d: int) -> Moments:
    """Moments of the l1 norm: mean sqrt(2/pi) sigma d, variance (1 - 2/pi) sigma^2 d."""
    return Moments(math.sqrt(2 / math.pi) * sigma * d, (1 - 2 / math.pi) * sigma**2 * d)


def l2(sigma: float, d: int) -> Moments:
    """Moments of the l2 norm, and nearly of the distance to the Fermat point.

    The mean is sqrt(2) sigma G((d+1)/2) / G(d/2).
    """
    mean = math.sqrt(2) * sigma * math.exp(gammaln((d + 1) / 2) - gammaln(d / 2))
    return Moments(mean, sigma**2 * d - mean**2)


def ratio_variance(d: int) -> float:
    """Upper bound, to first order, on the variance of l1 / l2 of a filter, both norms relative to their means."""
    return (math.pi - 1) / (2 * d)


#: What distinguishes two layers in a global ranking; see `mixes`.
MIXED = {"l1": 1.0, "l2": 0.5}


def mixes(criterion: str, first: tuple[int, float], second: tuple[int, float], tolerance: float = 0.1) -> bool:
    """Whether a norm interleaves the filters of two layers (d, sigma) in a global ranking, instead of stacking them.

    The mean l1 norms agree where sigma_A / sigma_B = d_B / d_A, the mean l2 norms where it is sqrt(d_B / d_A). If
    d_A != d_B only one of them can; then l1 and l2 rank the filters of both layers together differently.
    """
    (d_a, sigma_a), (d_b, sigma_b) = first, second
    return abs(math.log(sigma_a / sigma_b) - MIXED[criterion] * math.log(d_b / d_a)) <= math.log1p(tolerance)


def disagree(first: tuple[int, float], second: tuple[int, float], tolerance: float = 0.1) -> bool:
    """Whether l1 and l2 rank the filters of two layers (d, sigma) together differently, by the condition of Table 3."""
    return first[0] != second[0] and any(mixes(criterion, first, second, tolerance) for criterion in MIXED)
