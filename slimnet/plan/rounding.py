"""Widths that the runtime likes, at the same number of parameters.

Facts measured with onnxruntime on AVX-512: a float Conv runs in the fast blocked layout only if its input channels
are few (less than a block) or a multiple of 4, and then costs as if both widths were padded up to whole blocks of 16
(8 without AVX-512); a grouped Conv needs whole blocks per conv group. So 60 channels cost as much as 64, and 62 a lot
more. Alignment belongs to the axis of a weight, that is to the sum over all groups (and fixed channels) that meet
there, as behind a Concat.

What is minimised is the padded width of all axes relative to their dense width, plus how far the groups move away
from their wanted counts, minus a price times the parameters kept. The price is the Lagrange multiplier of "as many
parameters as without rounding" and is found by bisection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from slimnet.errors import BadInput
from slimnet.graph.units import Axis, Group, Trace

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: Cost of moving a group away from its wanted count by its whole width, in dense widths of its axes.
_DISTANCE = 1.5
#: The same where it changes no padded width: it only decides ties.
_TIE = 0.01
#: Matrix products pad too, but their kernels lose little by it.
_GEMM = 0.25
#: Blocks a group may move up or down to balance the number of parameters.
_REACH = 8
_LOOSE = 0.5
_TOLERANCE = 0.01
_PRICES = 16
_SWEEPS = 4


def round_counts(trace: Trace, kept: Counts, free: Bools, round_to: int | str) -> Counts:
    """Move the kept counts of the groups to widths that cost least at about the same number of parameters.

    Args:
        trace: groups, axes and parameter sizes of the network.
        kept: units each group should keep.
        free: groups whose count may change.
        round_to: "auto", or N to align every axis to multiples of N.

    Returns:
        Units to keep of each group: between 1 and all, and no less than wanted or one block.

    Raises:
        BadInput: `round_to` is neither "auto" nor a positive number.
    """
    if round_to != "auto" and not (isinstance(round_to, int) and round_to > 0):
        raise BadInput(f"round-to {round_to!r} is not 'auto', a positive number or 'none'")
    widths = _Widths.of(trace, kept, free, round_to)
    if not len(widths.weight):
        return kept
    return _Rounding(widths, _Parameters.of(trace), kept, free).solve()


@cache
def native_block(cpuinfo: str = "/proc/cpuinfo") -> int:
    """Channels onnxruntime's blocked layout handles at once: 16 with AVX-512, 8 with anything less.

    Without the file (macOS, Windows) 8 is assumed, which 16 would satisfy too.
    """
    path = Path(cpuinfo)
    return 16 if path.exists() and "avx512f" in path.read_text(encoding="utf-8", errors="replace") else 8


# -- axes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Need:
    """How the cost of an axis depends on its length."""

    units: Counts  # unit of each index, -1 where fixed
    block: int  # costs as if padded to a multiple of it
    grain: int  # a length from `start` on that is no multiple of it costs twice
    start: int
    weight: float


def _need(axis: Axis, round_to: int | str) -> _Need | None:
    if not isinstance(round_to, str):
        return _Need(axis.units, round_to, round_to, 0, 1.0)
    block = native_block()
    if axis.layout in ("conv", "depthwise"):
        return _Need(axis.units, block, 4, block, 1.0)
    if axis.layout == "gemm":
        return _Need(axis.units, block, 1, 0, _GEMM)
    if axis.layout == "grouped":
        units = _per_conv_group(axis)
        return _Need(units, block, block, 0, 1.0) if len(units) >= block else None
    return None


def _per_conv_group(axis: Axis) -> Counts:
    """The part of an axis that one conv group sees; empty where groups go as a whole and keep their width."""
    if len(axis.units) % axis.grouped:
        return axis.units
    rows = axis.units.reshape(axis.grouped, -1)
    if (rows == rows[0]).all():
        return rows[0]
    whole = (rows == rows[:, :1]).all()
    return axis.units[:0] if whole else axis.units


@dataclass(frozen=True)
class _Widths:
    """The axes to align, equal ones merged: A of them over G groups."""

    takes: Counts  # [A, G]: indices that one unit of a group takes; 0 for groups that are not free
    fixed: Counts  # [A]: indices that stay in any case
    dense: Counts  # [A]
    block: Counts  # [A], like the next ones: see _Need
    grain: Counts
    start: Counts
    weight: Floats

    @classmethod
    def of(cls, trace: Trace, kept: Counts, free: Bools, round_to: int | str) -> _Widths:
        groups = len(trace.groups)
        sizes = np.array([len(group.units) for group in trace.groups])
        owner = np.full(trace.n_units + 1, groups)  # one more for unit -1
        for g, group in enumerate(trace.groups):
            owner[group.units] = g
        rows = [np.zeros(groups + 6)]
        for axis in trace.axes:
            need = _need(axis, round_to)
            if need is None:
                continue
            indices = np.bincount(owner[need.units], minlength=groups + 1)
            takes, rest = np.divmod(indices[:groups], sizes)
            if (takes * free).any() and not rest.any():
                fixed = indices[groups] + (takes * kept)[~free].sum()
                shape = fixed, len(need.units), need.block, need.grain, need.start, need.weight
                rows.append(np.concatenate([takes * free, shape]))
        table, times = np.unique(np.array(rows[1:]).reshape(-1, groups + 6), axis=0, return_counts=True)
        takes, rest = table[:, :groups].astype(np.int64), table[:, groups:-1].astype(np.int64)
        return cls(takes, *rest.T, weight=table[:, -1] * times)

    def cost(self, rows: npt.NDArray[np.intp], lengths: Counts) -> Floats:
        """Cost [len(rows), C] of C lengths of each of these axes."""
        block, grain, start = self.block[rows, None], self.grain[rows, None], self.start[rows, None]
        padded = -(-lengths // block) * block
        rough = (lengths % grain != 0) & (lengths >= start)
        loose = lengths % block != 0
        return (self.weight[rows] / self.dense[rows])[:, None] * padded * (1 + rough + _LOOSE * loose)


# -- parameters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parameters:
    """Number of parameters left as a function of the kept counts: products of what is left of each tensor's axes."""

    sizes: Counts  # [G]: units of each group
    takes: csr_array  # [S, G]: indices one unit takes of each changing (tensor, axis)
    length: Floats  # [S]
    starts: npt.NDArray[np.intp]  # first of the S slots of each tensor
    elements: Floats  # elements of each tensor

    @classmethod
    def of(cls, trace: Trace) -> _Parameters:
        slots = _slots(trace.groups)
        order = sorted(slots)
        takes = csr_array(np.array([slots[key] for key in order], np.float64))
        tensors = [tensor for tensor, _ in order]
        starts = np.flatnonzero([i == 0 or tensors[i - 1] != tensor for i, tensor in enumerate(tensors)])
        length = np.array([trace.param_sizes[tensor][axis] for tensor, axis in order], np.float64)
        elements = np.array([np.prod(trace.param_sizes[tensors[i]]) for i in starts], np.float64)
        return cls(np.array([len(group.units) for group in trace.groups]), takes, length, starts, elements)

    def left(self, kept: Counts) -> Floats:
        """Elements left of each changing tensor."""
        return self.elements * np.multiply.reduceat(self._fraction(kept), self.starts)

    def slope(self, kept: Counts) -> Floats:
        """Parameters that one more unit of each group brings."""
        per_slot = np.repeat(self.left(kept), np.diff([*self.starts, len(self.length)]))
        return self.takes.T @ (per_slot / (self._fraction(kept) * self.length))

    def _fraction(self, kept: Counts) -> Floats:
        return 1 - self.takes @ (self.sizes - kept) / self.length


def _slots(groups: Sequence[Group]) -> dict[tuple[str, int], Counts]:
    """(tensor, axis) -> indices [G] of it that one unit of each group takes, counted once however many its uses."""
    slots: dict[tuple[str, int], Counts] = {}
    for g, group in enumerate(groups):
        uses: dict[tuple[str, int], list[Counts]] = {}
        for member in group.members:
            uses.setdefault((member.tensor, member.axis), []).append(member.index)
        for key, indices in uses.items():
            count = indices[0].shape[1] if len(indices) == 1 else len(np.unique(np.hstack(indices)[0]))
            slots.setdefault(key, np.zeros(len(groups), np.int64))[g] = count
    return slots


# -- the search ----------------------------------------------------------------------------------------------------


class _Rounding:
    """Candidate counts of every group, what they cost, and the best ones at a price of parameters."""

    def __init__(self, widths: _Widths, parameters: _Parameters, kept: Counts, free: Bools) -> None:
        self.widths, self.parameters, self.kept = widths, parameters, kept
        on = widths.takes > 0
        alone = on.sum(axis=1) == 1
        self.owns = on[alone].any(axis=0)
        # One block in units of each group.
        steps = np.where(on, widths.block[:, None] // np.gcd(widths.block[:, None], widths.takes), 1)
        self.step = np.lcm.reduce(steps, axis=0, initial=1)
        #: Groups that are aligned by themselves, and so never spoil an axis they share.
        self.aligned = self.owns & (parameters.sizes >= 2 * self.step)
        self.counts = self._candidates(parameters.sizes, free)
        self.costs = self._distance(parameters.sizes) + self._own_cost(np.flatnonzero(alone))
        self.costs[self.aligned[:, None] & (self.counts % self.step[:, None] != 0)] = np.inf
        self.slope = parameters.slope(kept) / parameters.left(kept).sum() * widths.weight.sum()
        self.shared = on & ~alone[:, None]

    def _candidates(self, sizes: Counts, free: Bools) -> Counts:
        """Counts [G, C] worth trying: all near the wanted one, then whole blocks; the nearest first."""
        reach = int(self.step[~self.aligned].max(initial=1))
        near = self.kept[:, None] + np.arange(-reach, reach + 1)
        blocks = (self.kept // self.step)[:, None] + np.arange(-_REACH, _REACH + 1)
        counts = np.hstack([near, blocks * self.step[:, None]])
        low = np.where(self.aligned, self.step, np.where(self.owns, np.minimum(self.kept, self.step), 1))
        counts = np.clip(counts, low[:, None], sizes[:, None])
        counts[~free] = self.kept[~free, None]
        nearest = np.argsort(np.abs(counts - self.kept[:, None]), axis=1, kind="stable")
        return np.take_along_axis(counts, nearest, axis=1)

    def _distance(self, sizes: Counts) -> Floats:
        """Cost [G, C] of moving away from the wanted counts; below one block every count is as good."""
        step = np.where(self.owns, self.step, 1)[:, None]
        wanted = self.kept[:, None]
        moved = np.abs(np.maximum(self.counts, step) - np.maximum(wanted, step))
        weight = self.widths.weight @ (self.widths.takes > 0)
        return (_DISTANCE * moved + _TIE * np.abs(self.counts - wanted)) * (weight / sizes)[:, None]

    def _own_cost(self, rows: npt.NDArray[np.intp]) -> Floats:
        """Cost [G, C] of the axes that belong to one group alone."""
        owner = self.widths.takes[rows].argmax(axis=1)
        takes = self.widths.takes[rows, owner]
        lengths = self.widths.fixed[rows, None] + takes[:, None] * self.counts[owner]
        out = np.zeros(self.counts.shape)
        np.add.at(out, owner, self.widths.cost(rows, lengths))
        return out

    def solve(self) -> Counts:
        """The counts that cost least with about the wanted number of parameters."""
        free = self._at(0.0)
        allowed = _TOLERANCE * self.parameters.elements.sum()
        wanted = self.parameters.left(self.kept).sum()
        goal = np.clip(self.parameters.left(free).sum(), wanted - allowed, wanted + allowed)
        few, many = self._bracket(goal)
        best, closest = few, abs(self._gap(few, goal))
        # Alike groups change at the same price; one after another they come closer.
        sets = self._inseparable()
        sets.sort(key=lambda groups: -float(np.abs((many - few)[groups]) @ self.slope[groups]))
        for groups in sets:
            trial = best.copy()
            trial[groups] = many[groups]
            gap = abs(self._gap(trial, goal))
            if gap < closest:
                best, closest = trial, gap
        return best

    def _gap(self, counts: Counts, goal: float) -> float:
        """Parameters too many."""
        return float(self.parameters.left(counts).sum()) - goal

    def _bracket(self, goal: float) -> tuple[Counts, Counts]:
        """The best counts at two close prices, with too few and too many parameters; twice the same if there is none."""
        few = many = None
        price, low, high = 0.0, -np.inf, np.inf
        for _ in range(_PRICES):
            counts = self._at(price)
            gap = self._gap(counts, goal)
            if gap == 0:
                return counts, counts
            if gap < 0:
                few, low = counts, price
            else:
                many, high = counts, price
            price = 2 * low + 1 if high == np.inf else 2 * high - 1 if low == -np.inf else (low + high) / 2
        few = many if few is None else few
        return few, few if many is None else many

    def _inseparable(self) -> list[npt.NDArray[np.intp]]:
        """Sets of groups that must change together, since they are aligned only in sum."""
        together = self.shared & ~self.aligned
        labels = connected_components(csr_array(together.T.astype(int) @ together), directed=False)[1]
        return [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]

    def _at(self, price: float) -> Counts:
        """The best counts when a parameter kept is worth `price`: group by group, and again while anything moves."""
        costs = self.costs - price * self.slope[:, None] * self.counts
        kept = np.where(self.owns, self.counts[np.arange(len(costs)), costs.argmin(axis=1)], self.kept)
        lengths = self.widths.fixed + self.widths.takes @ kept
        for _ in range(_SWEEPS):
            before = kept.copy()
            for g, rows, takes in self.meetings:
                others = lengths[rows] - takes * kept[g]
                met = self.widths.cost(rows, others[:, None] + takes[:, None] * self.counts[g]).sum(axis=0)
                kept[g] = self.counts[g, (costs[g] + met).argmin()]
                lengths[rows] = others + takes * kept[g]
            if (kept == before).all():
                break
        return kept

    @cached_property
    def meetings(self) -> list[tuple[int, npt.NDArray[np.intp], Counts]]:
        """Of each group that shares axes: its number, those axes, and what a unit takes of them."""
        rows = [np.flatnonzero(column) for column in self.shared.T]
        return [(g, r, self.widths.takes[r, g]) for g, r in enumerate(rows) if len(r)]
