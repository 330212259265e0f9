"""Criteria that look at data, in numpy: what units put out on it, and what their weights mean for the loss.

They rank by statistics that somebody else has measured (`needs` says which), and know no network and no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Role
from slimnet.methods.base import DataMethod, Method, Params, Scores
from slimnet.methods.criteria import L1, L2

if TYPE_CHECKING:
    from slimnet.graph.units import Group

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ActivationStatistics:
    """Statistics of the activations of the units of a group on data.

    Attributes:
        active: The fraction of each unit's activations whose absolute value is above a threshold, float64 [units].
        pooled: The mean activation of each unit on each sample, float32 [samples, units].
    """

    active: Array
    pooled: npt.NDArray[np.float32]


# -- what units put out ----------------------------------------------------------------------------------------------


@dataclass
class ActiveFraction(DataMethod):
    """Fraction of a unit's activations that are larger than sigma: the complement of Hu et al.'s (2016) APoZ.

    Attributes:
        sigma: The threshold on the absolute activation (Huang et al. 2021, Table 1).
    """

    needs = "activations"
    sigma: float = 1e-4

    def measurement_options(self) -> dict[str, Any]:
        return {"above": self.sigma}

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        found = self.measured()
        return [found[g.name].active if g.name in found else _unknown(g) for g in groups]


@dataclass
class Entropy(DataMethod):
    """Entropy, in nats, of a unit's mean activation over the samples: Luo and Wu 2017.

    Attributes:
        bins: The number of bins of the histogram, equally wide between the unit's least and largest value.
    """

    needs = "activations"
    bins: int = 100

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise BadInput(f"entropy: bins={self.bins} must be at least 1")

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        found = self.measured()
        return [entropies(found[g.name].pooled, self.bins) if g.name in found else _unknown(g) for g in groups]


def entropies(values: npt.NDArray[Any], bins: int) -> Array:
    """Entropy of the histogram of every column of [samples, units], in nats; 0 for a constant one."""
    values = values.astype(np.float64)
    low, high = values.min(axis=0), values.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    index = np.minimum((values - low) / width * bins, bins - 1).astype(np.int64)
    units = values.shape[1]
    counts = np.bincount((index + np.arange(units) * bins).ravel(), minlength=units * bins)
    p = counts.reshape(units, bins) / len(values)
    return -np.asarray((p * np.log(np.where(p > 0, p, 1))).sum(axis=1))


def _unknown(group: Group) -> Array:
    return np.full(len(group), np.nan)


# -- what weights mean for the loss ----------------------------------------------------------------------------------


@dataclass
class TaylorL1(DataMethod):
    """Sum of |gradient * weight| over a filter: Huang et al. 2021, Table 1."""

    needs = "gradients"

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return _ranked(L1(), groups, _products(params, self.measured(), groups, 1))


@dataclass
class TaylorL2(DataMethod):
    """Euclidean norm of gradient * weight over a filter: Huang et al. 2021, Table 1."""

    needs = "gradients"

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return _ranked(L2(), groups, _products(params, self.measured(), groups, 1))


@dataclass
class OptimalBrainDamage(DataMethod):
    """Rise of the loss when a filter is set to zero, 1/2 sum h w^2: LeCun et al. 1990.

    The curvature h is the diagonal of the empirical Fisher information, E[g^2] over single samples.
    """

    needs = "fisher"

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        return [part / 2 for part in _ranked(L1(), groups, _products(params, self.measured(), groups, 2))]


def _products(
    params: Params, factors: Mapping[str, npt.NDArray[Any]], groups: Sequence[Group], power: int
) -> dict[str, npt.NDArray[np.float32]]:
    """The products factor * weight^power of every filter that has a factor."""
    filters = {m.tensor for group in groups for m in group.members if m.role & Role.OUT}
    products = {}
    for name in filters & factors.keys():
        if factors[name].shape != params[name].shape:
            raise BadInput(
                f"tensor {name!r}: has shape {list(params[name].shape)}, and what was measured of it "
                f"{list(factors[name].shape)}; measure on the network that is pruned"
            )
        products[name] = factors[name] * params[name].astype(np.float32) ** power
    return products


def _ranked(norm: Method, groups: Sequence[Group], products: Params) -> Scores:
    """Norms of the products for the groups of which all filters have one."""
    known = [all(m.tensor in products for m in g.members if m.role & Role.OUT) for g in groups]
    if groups and not any(known):
        raise BadInput("no gradient of a removable filter was measured: measure on the network that is pruned")
    norms = iter(norm.score(products, [g for g, k in zip(groups, known, strict=True) if k]))
    return [next(norms) if k else _unknown(g) for g, k in zip(groups, known, strict=True)]


# -- what is lost after the others have made up for it ---------------------------------------------------------------


@dataclass
class Obs(DataMethod):
    """What removing a unit costs once the units that stay have made up for it: the optimal brain surgeon by blocks.

    Hassibi and Stork 1993; for structures Kurtic et al. 2023 (ZipLM). The losses of units that go one after the other
    add up, relative to what their layers give, so that they also say how wide each group is to be.
    """

    needs = "losses"
    adds_up = True

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        found = self.measured()
        return [found[g.name] if g.name in found else _unknown(g) for g in groups]
