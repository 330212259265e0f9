"""What the length of an axis costs the runtime.

Facts measured with onnxruntime on AVX-512: a float Conv runs in the fast blocked layout if its input channels are a
multiple of 4, and then costs as if both widths were padded up to whole blocks of 16 (8 without AVX-512). So 60
channels cost as much as 64, and 62 a lot more. With fewer input channels than a block it is fast too, but its input
has to be taken out of the layout first. A grouped Conv needs whole blocks per conv group. Alignment belongs to the
axis of a weight, that is to the sum over all groups (and fixed channels) that meet there, as behind a Concat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from slimnet.common.errors import BadInput
from slimnet.common.settings import LARGEST_COUNT
from slimnet.graph.units import Axis, Trace
from slimnet.runtime import machine

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]
Places: TypeAlias = npt.NDArray[np.intp]
Bools: TypeAlias = npt.NDArray[np.bool_]

#: The extra cost of a width that is no multiple of a block, relative to the padded width; and of one off the fast path.
_LOOSE = 0.5
_ROUGH = 1.0
#: The weight of matrix products, whose kernels lose little by a ragged end, and of grouped convolutions, which on
#: narrow groups gain little by the fast path (measured: RegNet, ResNeXt).
_MILD = 0.25
#: The number of channels that the blocked layout loads at once: an input that is no multiple of it leaves the layout.
ALIGNMENT = 4


@dataclass(frozen=True)
class _Need:
    """How the cost of an axis depends on its length.

    Attributes:
        units: The unit of each index, -1 where it is fixed.
        block: The number of indices that are computed at once: a length costs as if padded to a multiple of it.
        alignment: A length of at least `start` that is no multiple of this costs twice.
        start: The smallest length that `alignment` matters to.
        weight: The weight of the axis among all axes.
    """

    units: Counts
    block: int
    alignment: int
    start: int
    weight: float


def _need(axis: Axis, round_to: int | str) -> _Need | None:
    if not isinstance(round_to, str):
        return _Need(axis.units, round_to, round_to, 0, 1.0)
    block = machine.native_block()
    if axis.layout in ("conv", "depthwise"):
        return _Need(axis.units, block, ALIGNMENT, block, 1.0)
    if axis.layout == "gemm":
        return _Need(axis.units, block, 1, 0, _MILD)
    if axis.layout == "grouped":
        units = _per_conv_group(axis)
        return _Need(units, block, block, 0, _MILD) if len(units) >= block else None
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
class Widths:
    """The axes to align, equal ones merged: A of them over G groups.

    Attributes:
        takes: The number of indices that one unit of a group takes, [A, G]; 0 for groups that are not free.
        fixed: The number of indices that are kept in any case, [A].
        dense: The length in the dense network, [A].
        block, alignment, start: What the cost depends on, [A]: see `_Need`.
        weight: The weight of each axis, summed over the equal ones, [A].
    """

    takes: Counts
    fixed: Counts
    dense: Counts
    block: Counts
    alignment: Counts
    start: Counts
    weight: Floats

    @classmethod
    def of(cls, trace: Trace, kept: Counts, free: Bools, round_to: int | str) -> Widths:
        """The axes that a free group takes part in; the other groups have their `kept` units.

        Raises:
            BadInput: `round_to` is neither "auto" nor a number that a width can be a multiple of.
        """
        if round_to != "auto" and not (isinstance(round_to, int) and 1 <= round_to <= LARGEST_COUNT):
            raise BadInput(f"`round_to` {round_to!r}: give 'auto', None or a number from 1 to {LARGEST_COUNT}")
        groups = len(trace.groups)
        sizes = np.array([len(group.units) for group in trace.groups])
        owner = np.full(trace.n_units + 1, groups)  # one more for unit -1
        for g, group in enumerate(trace.groups):
            owner[group.units] = g
        rows: list[Floats] = []
        for axis in trace.axes:
            need = _need(axis, round_to)
            if need is None:
                continue
            indices = np.bincount(owner[need.units], minlength=groups + 1)
            takes, rest = np.divmod(indices[:groups], sizes)
            if (takes * free).any() and not rest.any():
                constant = indices[groups] + (takes * kept)[~free].sum()
                shape = constant, len(need.units), need.block, need.alignment, need.start, need.weight
                rows.append(np.concatenate([takes * free, shape]))
        table, times = np.unique(np.array(rows).reshape(-1, groups + 6), axis=0, return_counts=True)
        fixed, dense, block, alignment, start = table[:, groups:-1].T.astype(np.int64)
        return cls(table[:, :groups].astype(np.int64), fixed, dense, block, alignment, start, table[:, -1] * times)

    @property
    def step(self) -> Counts:
        """How many units [G] of each group make whole blocks on every axis that it takes part in; 1 without axes."""
        return self._step(self.block)

    @property
    def fine_step(self) -> Counts:
        """The same for parts of a block that the fast layout can still load."""
        return self._step(np.minimum(self.block, ALIGNMENT))

    def _step(self, block: Counts) -> Counts:
        steps = np.where(self.takes > 0, block[:, None] // np.gcd(block[:, None], self.takes), 1)
        return np.lcm.reduce(steps, axis=0, initial=1)

    def cost(self, rows: Places, lengths: Counts) -> Floats:
        """The cost [len(rows), C] of C lengths of each of these axes."""
        block, alignment, start = self.block[rows, None], self.alignment[rows, None], self.start[rows, None]
        padded = -(-lengths // block) * block
        rough = (lengths % alignment != 0) & (lengths >= start)
        loose = lengths % block != 0
        return (self.weight[rows] / self.dense[rows])[:, None] * padded * (1 + _ROUGH * rough + _LOOSE * loose)
