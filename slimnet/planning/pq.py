"""How many units of each group the PQ index of their scores lets go: `--ratio auto`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slimnet.analysis.compressibility import Array, Rule, allowed, pq_index, prunable
from slimnet.common.errors import BadInput
from slimnet.methods.base import Scores


def unit_ratios(scores: Scores, rule: Rule) -> Array:
    """The fraction of each group's units that may go, by the bound on their norms: structural pruning by SAP's rule.

    Args:
        scores: The norms [units] of each group, or other importances that are not negative.
        rule: The rule: p, q and how far to follow the bound.

    Returns:
        The ratios [groups], each below 1; 0 where a group cannot be ranked.

    Raises:
        BadInput: Scores are negative, or nothing may go.
    """
    ratios = np.zeros(len(scores))
    for g, values in enumerate(scores):
        if np.isnan(values).any():
            continue
        if (values < 0).any():
            raise BadInput("ratio auto: needs scores that are not negative, such as norms; choose another method")
        ratios[g] = min(int(prunable(values, rule)), len(values) - 1) / len(values)
    if scores and not ratios.any():
        raise BadInput(
            "ratio auto: the bound lets no unit go, for the scores in each group are too much alike; give a number, or "
            f"scale the bound, as in auto?gamma={_telling(scores, rule)}"
        )
    return ratios


def _telling(scores: Scores, rule: Rule) -> int:
    """The smallest power of two that lets some unit go as gamma; 10 where there is none."""
    sizes = np.array([len(values) for values in scores if not np.isnan(values).any()])
    index = np.array([pq_index(values, rule.p, rule.q) for values in scores if not np.isnan(values).any()])
    powers = (2**k for k in range(1, 16))
    return next((g for g in powers if allowed(index, sizes, replace(rule, gamma=g, ceil=False)).any()), 10)
