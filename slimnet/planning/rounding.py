"""Round the kept counts to widths that cost least, at about the same number of parameters.

What is minimised is the cost of all axes (see `widths`), plus how far the groups move away from their wanted counts,
minus a price times the parameters kept. The price is the Lagrange multiplier of "about as many parameters as wanted":
zero if that holds anyway, otherwise found by bisection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from slimnet.graph.units import Group, Trace
from slimnet.planning.widths import Bools, Counts, Floats, Places, Widths

#: The cost of moving a group away from its wanted count by its whole width, in dense widths of its axes.
_DISTANCE = 1.25
#: The same where it changes no padded width: it only decides ties.
_TIE = 0.01
#: The number of blocks that a group may move up or down.
_REACH = 8
#: Parameters may end this fraction of the dense ones below what was wanted; a result this close ends the search.
_TOLERANCE = 0.0125
_EXACT = 0.001
_PRICES = 16
_SWEEPS = 4


def round_counts(trace: Trace, kept: Counts, free: Bools, round_to: int | str) -> Counts:
    """Move the kept counts of the groups to widths that cost least at about the same number of parameters.

    Args:
        trace: The trace of the network, with its groups, axes and parameter sizes.
        kept: The number of units that each group should keep, int [G].
        free: Which groups may change their count, bool [G].
        round_to: "auto" for what the runtime computes fast here, or N to align every axis to multiples of N.

    Returns:
        The number of units to keep of each group, int [G]: at least one block or as many as wanted, where the group
        has an axis to itself, and never less than half of what was wanted.

    Raises:
        BadInput: `round_to` is neither "auto" nor such a number.
    """
    widths = Widths.of(trace, kept, free, round_to)
    if not len(widths.weight):
        return kept
    return _Rounding(widths, _Parameters.of(trace), kept, free).solve()


# -- parameters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parameters:
    """The number of parameters left as a function of the kept counts: products of what is left of tensors' axes.

    Attributes:
        sizes: The number of units of each group, [G].
        takes: The number of indices that one unit takes of each changing axis of a tensor, [A, G].
        length: The length of each of these axes, [A].
        starts: The first of these axes for each tensor.
        elements: The number of elements of each tensor.
    """

    sizes: Counts
    takes: csr_array
    length: Floats
    starts: Places
    elements: Floats

    @classmethod
    def of(cls, trace: Trace) -> _Parameters:
        axes = _changing_axes(trace.groups)
        order = sorted(axes)
        takes = csr_array(np.array([axes[key] for key in order], np.float64))
        tensors = [tensor for tensor, _ in order]
        starts = np.flatnonzero([i == 0 or tensors[i - 1] != tensor for i, tensor in enumerate(tensors)])
        length = np.array([trace.param_sizes[tensor][axis] for tensor, axis in order], np.float64)
        elements = np.array([np.prod(trace.param_sizes[tensors[i]]) for i in starts], np.float64)
        return cls(np.array([len(group.units) for group in trace.groups]), takes, length, starts, elements)

    def left(self, kept: Counts) -> Floats:
        """The number of elements left of each changing tensor."""
        return self.elements * np.multiply.reduceat(self._fraction(kept), self.starts)

    def slope(self, kept: Counts) -> Floats:
        """The number of parameters that one more unit of each group brings."""
        per_axis = np.repeat(self.left(kept), np.diff([*self.starts, len(self.length)]))
        return self.takes.T @ (per_axis / (self._fraction(kept) * self.length))

    def _fraction(self, kept: Counts) -> Floats:
        return 1 - self.takes @ (self.sizes - kept) / self.length


def _changing_axes(groups: Sequence[Group]) -> dict[tuple[str, int], Counts]:
    """How many indices [G] one unit of each group takes, by (tensor, axis); each counts once whatever its uses."""
    axes: dict[tuple[str, int], Counts] = {}
    for g, group in enumerate(groups):
        uses: dict[tuple[str, int], list[Counts]] = {}
        for member in group.members:
            uses.setdefault((member.tensor, member.axis), []).append(member.index)
        for key, indices in uses.items():
            count = indices[0].shape[1] if len(indices) == 1 else len(np.unique(np.hstack(indices)[0]))
            axes.setdefault(key, np.zeros(len(groups), np.int64))[g] = count
    return axes


# -- the search ----------------------------------------------------------------------------------------------------


class _Rounding:
    """The candidate counts of every group, what they cost, and the best ones at a price of parameters."""

    def __init__(self, widths: Widths, parameters: _Parameters, kept: Counts, free: Bools) -> None:
        self.widths, self.parameters, self.kept = widths, parameters, kept
        on = widths.takes > 0
        alone = on.sum(axis=1) == 1
        self.owns = on[alone].any(axis=0)
        self.step = widths.step
        #: Groups that are aligned by themselves, and so never spoil an axis they share.
        self.aligned = self.owns & (parameters.sizes >= 2 * self.step)
        self.counts = self._candidates(parameters.sizes, free)
        self.costs = self._distance(self.counts) + self._own_cost(np.flatnonzero(alone))
        self.costs[self.aligned[:, None] & (self.counts % self.step[:, None] != 0)] = np.inf
        self.slope = parameters.slope(kept) / parameters.left(kept).sum() * widths.weight.sum()
        self.shared = on & ~alone[:, None]

    def _candidates(self, sizes: Counts, free: Bools) -> Counts:
        """The counts [G, C] to try: all near the wanted one, then whole blocks; the nearest first."""
        reach = min(int(self.step[~self.aligned].max(initial=1)), int(sizes.max()))
        near = self.kept[:, None] + np.arange(-reach, reach + 1)
        blocks = (self.kept // self.step)[:, None] + np.arange(-_REACH, _REACH + 1)
        counts = np.hstack([near, blocks * self.step[:, None]])
        low = np.where(self.aligned, self.step, np.where(self.owns, np.minimum(self.kept, self.step), 1))
        low = np.maximum(low, (self.kept + 1) // 2)
        counts = np.clip(counts, low[:, None], sizes[:, None])
        counts[~free] = self.kept[~free, None]
        nearest = np.argsort(np.abs(counts - self.kept[:, None]), axis=1, kind="stable")
        return np.take_along_axis(counts, nearest, axis=1)

    def _distance(self, counts: Counts) -> Floats:
        """The cost [G, C] of moving from the wanted to other counts; below one block every count is as good.

        It rises with the square as well, so that many groups move a little before one moves far.
        """
        step = np.where(self.owns, self.step, 1)[:, None]
        wanted = self.kept[:, None]
        moved = np.abs(np.maximum(counts, step) - np.maximum(wanted, step))
        weight = self.widths.weight @ (self.widths.takes > 0)
        far = _DISTANCE + moved / wanted
        return (far * moved + _TIE * np.abs(counts - wanted)) * (weight / self.parameters.sizes)[:, None]

    def _own_cost(self, rows: Places) -> Floats:
        """The cost [G, C] of the axes that belong to one group alone."""
        owner = self.widths.takes[rows].argmax(axis=1)
        takes = self.widths.takes[rows, owner]
        lengths = self.widths.fixed[rows, None] + takes[:, None] * self.counts[owner]
        out = np.zeros(self.counts.shape)
        np.add.at(out, owner, self.widths.cost(rows, lengths))
        return out

    def solve(self) -> Counts:
        """The counts that cost least with about the wanted number of parameters."""
        unpriced = self._at(0.0)
        allowed = _TOLERANCE * self.parameters.elements.sum()
        wanted = self.parameters.left(self.kept).sum()
        goal = float(np.clip(self.parameters.left(unpriced).sum(), wanted - allowed, wanted))
        few, many = self._bracket(goal)
        # Alike groups change at the same price; one set after another they come closer.
        best = self._closer(few, [(groups, many[groups]) for groups in self._inseparable()], goal)
        block = best + self.step * (1 if self._gap(best, goal) < 0 else -1)
        possible = self.aligned & (self.counts == block[:, None]).any(axis=1)
        return self._closer(best, [(np.array([g]), block[[g]]) for g in np.flatnonzero(possible)], goal)

    def _closer(self, counts: Counts, changes: Sequence[tuple[Places, Counts]], goal: float) -> Counts:
        """Make changes that bring the number of parameters closer to the goal, those that cost least for it first."""
        cost, gap = self._cost(counts), self._gap(counts, goal)
        trials = []
        for groups, new in changes:
            trial = counts.copy()
            trial[groups] = new
            moved = self._gap(trial, goal) - gap
            if moved * gap < 0:
                trials.append(((self._cost(trial) - cost) / abs(moved), groups, new))
        for _, groups, new in sorted(trials, key=lambda t: t[0]):
            if abs(gap) < _EXACT * self.parameters.elements.sum():
                break
            trial = counts.copy()
            trial[groups] = new
            if abs(self._gap(trial, goal)) < abs(gap):
                counts, gap = trial, self._gap(trial, goal)
        return counts

    def _cost(self, counts: Counts) -> float:
        """The cost of all axes, and of the distance from the wanted counts."""
        lengths = self.widths.fixed + self.widths.takes @ counts
        rows = np.arange(len(lengths))
        return float(self.widths.cost(rows, lengths[:, None]).sum() + self._distance(counts[:, None]).sum())

    def _gap(self, counts: Counts, goal: float) -> float:
        """The number of parameters above the goal."""
        return float(self.parameters.left(counts).sum()) - goal

    def _bracket(self, goal: float) -> tuple[Counts, Counts]:
        """The best counts at two close prices, with too few and with too many parameters; or twice the closest."""
        few: Counts | None = None
        many: Counts | None = None
        price, low, high = 0.0, -np.inf, np.inf
        for _ in range(_PRICES):
            counts = self._at(price)
            gap = self._gap(counts, goal)
            if abs(gap) < _EXACT * self.parameters.elements.sum():
                return counts, counts
            if gap < 0:
                few, low = counts, price
            else:
                many, high = counts, price
            price = 2 * low + 1 if high == np.inf else 2 * high - 1 if low == -np.inf else (low + high) / 2
        ends = [counts for counts in (few, many) if counts is not None]
        return ends[0], ends[-1]

    def _inseparable(self) -> list[Places]:
        """Sets of groups that must change together, since they are aligned only in sum."""
        axes, groups = np.nonzero(self.shared & ~self.aligned)
        first, count = self.shared.shape
        edges = csr_array((np.ones(len(axes)), (axes, first + groups)), shape=(first + count,) * 2)
        labels = connected_components(edges, directed=False)[1][first:]
        order = np.argsort(labels, kind="stable")
        sets = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        return sorted(sets, key=lambda groups: int(groups[0]))

    def _at(self, price: float) -> Counts:
        """The best counts when a kept parameter earns `price`: group by group, and again while anything moves."""
        costs = self.costs - price * self.slope[:, None] * self.counts
        chosen = np.where(self.owns, self.counts[np.arange(len(costs)), costs.argmin(axis=1)], self.kept)
        lengths = self.widths.fixed + self.widths.takes @ chosen
        for _ in range(_SWEEPS):
            before = chosen.copy()
            for g, columns, rows, takes in self.meetings:
                counts = self.counts[g, columns]
                others = lengths[rows] - takes * chosen[g]
                met = self.widths.cost(rows, others[:, None] + takes[:, None] * counts).sum(axis=0)
                chosen[g] = counts[(costs[g, columns] + met).argmin()]
                lengths[rows] = others + takes * chosen[g]
            if (chosen == before).all():
                break
        return chosen

    @cached_property
    def meetings(self) -> list[tuple[int, Places, Places, Counts]]:
        """For each group that shares axes: its number, its candidates' columns, the axes, what a unit takes of them."""
        out = []
        for g in np.flatnonzero(self.shared.any(axis=0)):
            finite = np.flatnonzero(np.isfinite(self.costs[g]))
            columns = finite[np.sort(np.unique(self.counts[g, finite], return_index=True)[1])]
            rows = np.flatnonzero(self.shared[:, g])
            out.append((int(g), columns, rows, self.widths.takes[rows, g]))
        return out
