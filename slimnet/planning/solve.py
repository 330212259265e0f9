"""How many units of each group to keep, for the most importance and multiply-adds within a budget.

What passes through a network passes through its layers one after the other, so the objective adds up logarithms of
importance: half of two layers rather than all of one and next to nothing of the other, which is where a plain sum
would end. Scores say little about how layers compare, so the multiply-adds that are kept count in the objective too.

The cost couples the groups (a layer costs the product of both its widths), so the problem is solved by sequential
linear programming in a trust region (Fletcher and Sainz de la Maza, 1989): at the current widths every other width of
a group has an exact price if the other groups do not change, which makes a multiple-choice knapsack.
Its solution is taken if it really costs no more than allowed and has a higher objective value; else the region shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slimnet.graph.units import Trace
from slimnet.planning.cost import Cost, multiply_adds
from slimnet.planning.rounding import round_counts
from slimnet.planning.widths import ALIGNMENT, Bools, Counts, Floats, Widths

#: The weight of all multiply-adds in the objective if nothing else is said, see `Choices`. A larger one costs accuracy.
MACS_WEIGHT = 1.0
#: The loss, relative to what layers give, that weighs as much as one in the logarithm of a group's importance.
LOSS = 0.1
#: The largest number of widths of a group that one knapsack chooses between.
_CHOICES = 17
#: How far a group may move in one step at first, as a fraction of its units.
_REACH = 0.5
_STEPS = 40
#: A share of a group that counts as nothing.
_NOTHING = 1e-6
#: The number of parts of the budget that the knapsack tells apart.
_BINS = 4096


@dataclass(frozen=True)
class Choices:
    """What the solver may choose from.

    Attributes:
        counts: The numbers of units that may be kept, ascending, for each group; a single one where there is no choice.
        value: The importance kept with each of these counts, as a fraction, for each group.
        work: The multiply-adds of the network as a function of its widths.
        macs_weight: The weight of all multiply-adds in the objective; 1 is as much as e times the importance in every
            group.
    """

    counts: tuple[Counts, ...]
    value: tuple[Floats, ...]
    work: Cost
    macs_weight: float = MACS_WEIGHT

    @property
    def fewest(self) -> Counts:
        """The smallest network: one block in each group."""
        return np.array([counts[0] for counts in self.counts])

    @property
    def most(self) -> Counts:
        """The largest network."""
        return np.array([counts[-1] for counts in self.counts])

    def kept(self, counts: Counts) -> float:
        """The importance kept, summed over the groups: each counts as one."""
        return self._summed(self.value, counts)

    def objective(self, counts: Counts) -> float:
        """The objective: logarithms of the importance kept, summed over the groups, and the multiply-adds kept."""
        return self._summed(self._log_values, counts) + self._price * self.work.total(counts)

    def _summed(self, table: tuple[Floats, ...], counts: Counts) -> float:
        """What a table gives for the count of each group, summed."""
        return float(sum(t[np.searchsorted(have, n)] for have, t, n in zip(self.counts, table, counts, strict=True)))

    def along(self, counts: Counts, group: int, at: Counts | slice = slice(None)) -> Floats:
        """The objective, but for a constant, with the counts `at` of one group and `counts` of the others: [at]."""
        return self._log_values[group][at] + self._price * self.work.along(counts, group, self.counts[group][at])

    @cached_property
    def _log_values(self) -> tuple[Floats, ...]:
        """The logarithm of the importance kept with each count, for each group."""
        return tuple(np.log(np.maximum(value, _NOTHING)) for value in self.value)

    @cached_property
    def _price(self) -> float:
        """The objective value of one multiply-add."""
        return self.macs_weight * len(self.counts) / max(self.work.total(self.most), 1.0)


def choices(
    trace: Trace,
    scores: Sequence[Floats],
    kept: Counts,
    free: Bools,
    round_to: int | str | None,
    adds_up: bool = False,
) -> Choices:
    """The aligned counts of each group and the importance that they keep.

    Args:
        trace: The trace of the network, with its groups and axes.
        scores: One vector [units] per group; low means prune.
        kept: The number of units kept of each group, int [G], for the groups that are not `free`.
        free: Which groups to choose for, bool [G].
        round_to: The alignment: "auto" for whole blocks of the runtime here, N for multiples of N, None for any count.
        adds_up: Whether the scores of units that go add up to a loss that compares between groups.

    Returns:
        For a free group the multiples of a block, and all units; a group smaller than a block stays as it is. But where
        a unit takes several indices of an axis (one in every conv group, say), a few units make parts of many blocks.
    """
    sizes = np.array([len(group) for group in trace.groups])
    step = np.ones_like(sizes)
    if round_to is not None:
        widths = Widths.of(trace, sizes, free, round_to)
        narrow = (widths.step >= sizes) & (widths.takes > 1).any(axis=0)
        step = np.where(narrow, widths.fine_step, widths.step)
    counts = [
        np.unique(np.append(np.arange(s, n, s), n)) if f else np.array([k])
        for n, s, f, k in zip(sizes, step, free, kept, strict=True)
    ]
    worth = _without_loss if adds_up else _kept_value
    value = tuple(worth(v, n) for v, n in zip(scores, counts, strict=True))
    return Choices(tuple(counts), value, multiply_adds(trace))


def _without_loss(scores: Floats, counts: Counts) -> Floats:
    """One, and less by a factor of e for each `LOSS` that the lowest scores, of the units that go, add up to."""
    removed = np.append(0.0, np.cumsum(np.sort(np.maximum(np.nan_to_num(scores), 0.0))))
    return np.asarray(np.exp(-removed[len(scores) - counts] / LOSS))


def _kept_value(scores: Floats, counts: Counts) -> Floats:
    """The sum of the highest scores, as a fraction of the sum of all; scores below zero count as zero."""
    ordered = np.sort(np.maximum(np.nan_to_num(scores), 0.0))[::-1]
    total = ordered.sum()
    share = ordered / total if total > 0 else np.full(len(ordered), 1 / max(len(ordered), 1))
    return np.append(0.0, np.cumsum(share))[counts]


def solve(cost: Cost, budget: float, choices: Choices) -> Counts:
    """The counts of the highest objective value (`Choices.objective`) at a cost of at most `budget`.

    Returns:
        The number of units to keep of each group; `choices.fewest` where even that costs more than the budget.
    """
    if cost.total(choices.most) <= budget:
        return choices.most
    if cost.total(choices.fewest) > budget:
        return choices.fewest
    starts = [_evenly(cost, budget, choices), _priced(cost, budget, choices)]
    found = [_filled(cost, budget, choices, _improved(cost, budget, choices, start)) for start in starts]
    return max(found, key=choices.objective)


def aligned(trace: Trace, counts: Counts, free: Bools, round_to: int | str | None) -> Counts:
    """Round the groups that meet on axes whose sum is off the fast path: alignment belongs to the axis."""
    if round_to is None:
        return counts
    widths = Widths.of(trace, counts, free, round_to)
    off = (widths.fixed + widths.takes @ counts) % np.minimum(widths.alignment, ALIGNMENT) != 0
    meeting = (widths.takes[off] > 0).any(axis=0)
    return round_counts(trace, counts, meeting, round_to) if meeting.any() else counts


# -- starts --------------------------------------------------------------------------------------------------------


def _evenly(cost: Cost, budget: float, choices: Choices) -> Counts:
    """About the same fraction of every group, as large as the budget allows."""
    low, high, best = 0.0, 1.0, choices.fewest
    for _ in range(20):
        fraction = (low + high) / 2
        at = [max(np.searchsorted(n, fraction * n[-1], "right") - 1, 0) for n in choices.counts]
        counts = np.array([n[i] for n, i in zip(choices.counts, at, strict=True)])
        if cost.total(counts) <= budget:
            low, best = fraction, counts
        else:
            high = fraction
    return best


def _priced(cost: Cost, budget: float, choices: Choices) -> Counts:
    """The best counts when cost has a price: group by group, for a price found by bisection (Lagrange)."""
    dense = cost.total(choices.most)
    low, high, best = -12.0, 12.0, choices.fewest
    for _ in range(16):
        middle = (low + high) / 2
        counts = _at_price(cost, float(np.exp(middle)) / dense, choices)
        if cost.total(counts) <= budget:
            high, best = middle, counts
        else:
            low = middle
    return best


def _at_price(cost: Cost, price: float, choices: Choices) -> Counts:
    counts = choices.most
    for _ in range(3):
        before = counts.copy()
        for g, have in enumerate(choices.counts):
            if len(have) > 1:
                counts[g] = have[(choices.along(counts, g) - price * cost.along(counts, g, have)).argmax()]
        if (counts == before).all():
            break
    return counts


# -- improving -----------------------------------------------------------------------------------------------------


def _improved(cost: Cost, budget: float, choices: Choices, counts: Counts) -> Counts:
    """Sequential linear programming from counts within the budget."""
    reach = _REACH
    for _ in range(_STEPS):
        window = _window(choices, counts, reach)
        new = _within(cost, budget, choices, counts, window)
        if choices.objective(new) > choices.objective(counts) + 1e-9:
            counts = new
        elif max(len(at) for at in window) <= 3:
            break
        else:
            reach /= 2
    return counts


def _window(choices: Choices, counts: Counts, reach: float) -> list[Counts]:
    """The numbers of the choices of each group that lie near its count, at least the next ones."""
    out = []
    for have, n in zip(choices.counts, counts, strict=True):
        at = int(np.searchsorted(have, n))
        low = min(int(np.searchsorted(have, n - reach * have[-1])), at - 1)
        high = max(int(np.searchsorted(have, n + reach * have[-1], "right")) - 1, at + 1)
        spread = np.linspace(max(low, 0), min(high, len(have) - 1), _CHOICES).round().astype(int)
        near = np.clip([at - 1, at, at + 1], 0, len(have) - 1)
        out.append(np.unique(np.append(spread, near)))
    return out


def _within(cost: Cost, budget: float, choices: Choices, counts: Counts, window: Sequence[Counts]) -> Counts:
    """The best counts by the prices at `counts`; asked for less where the products made it dearer than allowed."""
    now = cost.total(counts)
    near = [have[at] for have, at in zip(choices.counts, window, strict=True)]
    moved = [cost.along(counts, g, these) - now for g, these in enumerate(near)]
    value = [choices.along(counts, g, at) for g, at in enumerate(window)]
    room = budget - now
    for _ in range(4):
        picked = _knapsack(value, moved, room)
        if picked is None:
            return counts
        new = np.array([these[i] for these, i in zip(near, picked, strict=True)])
        over = cost.total(new) - budget
        if over <= 0:
            return new
        room -= over
    return counts


def _knapsack(value: Sequence[Floats], price: Sequence[Floats], room: float) -> list[int] | None:
    """One choice of each group, of the highest value at a price of at most `room`; None if there is none.

    Dynamic programming over the budget (Dudzinski and Walukiewicz, 1987), which is cut into `_BINS` parts.
    """
    room -= sum(float(p.min()) for p in price)
    if room < 0:
        return None
    costs = [np.round((p - p.min()) / max(room, 1e-300) * _BINS) for p in price]
    best = np.zeros(_BINS + 1)
    taken = np.zeros((len(value), _BINS + 1), np.int16)
    for g, (values, bins) in enumerate(zip(value, costs, strict=True)):
        new = np.full(_BINS + 1, -np.inf)
        for c in np.flatnonzero(bins <= _BINS):
            cost = int(bins[c])
            reached = best[: _BINS + 1 - cost] + values[c]
            better = reached > new[cost:]
            new[cost:][better] = reached[better]
            taken[g, cost:][better] = c
        best = new
    left, picked = _BINS, []
    for g in range(len(value) - 1, -1, -1):
        picked.append(int(taken[g, left]))
        left -= int(costs[g][picked[-1]])
    return picked[::-1]


def _filled(cost: Cost, budget: float, choices: Choices, counts: Counts) -> Counts:
    """Add blocks while there is room, those first that raise the objective most for their cost."""
    counts = counts.copy()
    while True:
        best, chosen = 0.0, None
        now = cost.total(counts)
        for g, have in enumerate(choices.counts):
            at = int(np.searchsorted(have, counts[g]))
            if at + 1 == len(have):
                continue
            price = float(cost.along(counts, g, have[at + 1 : at + 2])[0]) - now
            before, after = choices.along(counts, g, slice(at, at + 2))
            gain = float(after - before) / max(price, 1e-12)
            if now + price <= budget and gain > best:
                best, chosen = gain, (g, have[at + 1])
        if chosen is None:
            return counts
        counts[chosen[0]] = chosen[1]
