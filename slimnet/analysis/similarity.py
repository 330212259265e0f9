"""How alike criteria rank the same filters, and whether a criterion can distinguish them at all.

Huang et al. 2021, "Rethinking the Pruning Criteria for Convolutional Neural Network", Sections 3 and 4.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Units below which a rank correlation says nothing: two are always perfectly alike or perfectly opposed.
FEWEST = 3


def spearman(scores: npt.ArrayLike) -> Array:
    """Spearman's rank correlation of every two rows of [k, n], ties having their mean rank.

    Returns:
        [k, k]; NaN for rows that are constant or not all numbers, and everywhere if n is below `FEWEST`.
    """
    given = np.atleast_2d(np.asarray(scores, np.float64))
    k, n = given.shape
    usable = np.asarray(~np.isnan(given).any(axis=1))
    if n < FEWEST:
        return np.full((k, k), np.nan)
    ranks = np.asarray(rankdata(np.where(usable[:, None], given, 0.0), axis=1)) - (n + 1) / 2
    ranks[~usable] = 0
    length = np.sqrt((ranks**2).sum(axis=1))
    length[length == 0] = np.nan
    return np.asarray(np.clip(ranks @ ranks.T / length / length[:, None], -1, 1))


def lowest(scores: npt.ArrayLike, ratio: float) -> Bools:
    """Bool [k, n], true for the ceil(ratio n) lowest of each row, but never all of it; of equal ones the first."""
    given = np.atleast_2d(np.asarray(scores, np.float64))
    n = given.shape[1]
    count = min(math.ceil(ratio * n - 1e-9), n - 1)
    return np.asarray(np.asarray(rankdata(given, "ordinal", axis=1)) <= count)


def overlap(scores: npt.ArrayLike, ratio: float) -> Array:
    """Fraction that the sets of lowest units by every two rows of [k, n] have in common: [k, k].

    Two random sets have `ratio` in common. NaN for rows that are not all numbers, and where nothing would be removed.
    """
    given = np.atleast_2d(np.asarray(scores, np.float64))
    usable = np.asarray(~np.isnan(given).any(axis=1))
    sets = lowest(np.where(usable[:, None], given, 0.0), ratio).astype(np.float64)
    sets[~usable] = np.nan
    count = np.nan_to_num(sets).sum(axis=1).max(initial=0)
    return sets @ sets.T / (count or np.nan)


def relative_variance(scores: npt.ArrayLike) -> tuple[float, float]:
    """Var / E, which the paper calls applicability, and Var / E^2, of a vector of scores; population variance.

    Near 0 the criterion cannot distinguish the filters. Var / E has the unit of the score: multiplying all weights by
    ten multiplies it by ten, so it does not compare criteria. Var / E^2 does. NaN where the mean is 0.
    """
    values = np.asarray(scores, np.float64)
    mean, variance = float(values.mean()), float(values.var())
    return (variance / mean, variance / mean**2) if mean else (math.nan, math.nan)
