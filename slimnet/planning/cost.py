"""What a network costs as a function of its widths: a sum of products of lengths of axes.

Parameters and multiply-adds are such sums exactly; latency is one approximately, if lengths are counted in whole
blocks of the runtime (see `latency_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slimnet.graph.axes import Integers
from slimnet.graph.units import Trace
from slimnet.planning.widths import ALIGNMENT, Bools, Counts, Floats, Places
from slimnet.runtime import machine

#: A Conv whose input channels are no multiple of `ALIGNMENT` leaves the fast layout: about twice the time.
_ROUGH = 2.0


@dataclass(frozen=True)
class Axes:
    """Distinct axes, A of them over G groups.

    Attributes:
        takes: The number of indices that one unit of each group takes, [A, G].
        fixed: The number of indices that are kept in any case, [A].
        step: Whether the size is a step function of the length, which counts whole blocks, [A].
    """

    takes: Floats
    fixed: Floats
    step: Bools

    def sizes(self, lengths: Floats) -> Floats:
        """The sizes that lengths [A, C] count for, and a row of ones below: [A + 1, C]."""
        block = machine.native_block()
        rough = (lengths % ALIGNMENT != 0) & (lengths >= block)
        blocks = np.ceil(lengths / block) * np.where(rough, _ROUGH, 1.0)
        return np.vstack([np.where(self.step[:, None], blocks, lengths), np.ones(lengths.shape[1])])


@dataclass(frozen=True)
class Cost:
    """A sum of T terms, each a factor times the sizes of a few axes; every term is a part of some layer.

    Attributes:
        axes: The axes whose lengths change.
        rows: The numbers of the axes of each term, int [T, K]; A, the number of axes, stands for none.
        factor: The constant factor of each term, float [T].
        owner: The number of the layer that each term is a part of, int [T].
        names: The names of the layers.
    """

    axes: Axes
    rows: Places
    factor: Floats
    owner: Places
    names: tuple[str, ...]

    def total(self, kept: Counts) -> float:
        """The cost with `kept` units of each group."""
        return float(self._terms(self._lengths(kept)[:, None]).sum())

    def by_layer(self, kept: Counts) -> dict[str, float]:
        """The cost of each layer."""
        terms = self._terms(self._lengths(kept)[:, None])[:, 0]
        return dict(zip(self.names, np.bincount(self.owner, terms, len(self.names)).tolist(), strict=True))

    def along(self, kept: Counts, group: int, counts: Counts) -> Floats:
        """The total [C] when one group has each of `counts` [C] units and the others have what `kept` says."""
        takes = self.axes.takes[:, group]
        return self._terms(self._lengths(kept)[:, None] + takes[:, None] * (counts - kept[group])).sum(axis=0)

    def _lengths(self, kept: Counts) -> Floats:
        return self.axes.fixed + self.axes.takes @ kept

    def _terms(self, lengths: Floats) -> Floats:
        return self.factor[:, None] * self.axes.sizes(lengths)[self.rows].prod(axis=1)


@dataclass
class Builder:
    """A collector of the terms of one network."""

    trace: Trace
    axes: dict[bytes, int] = field(default_factory=dict)
    takes: list[Floats] = field(default_factory=list)
    terms: dict[tuple[int, tuple[int, ...]], float] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = len(self.trace.groups)
        self._owner = np.full(self.trace.n_units + 1, groups)  # one more for unit -1
        for g, group in enumerate(self.trace.groups):
            self._owner[group.units] = g
        self._units = np.array([len(group) for group in self.trace.groups], np.float64)

    def product(self, axes: Sequence[Integers], step: bool) -> tuple[tuple[int, ...], float]:
        """The numbers of the axes with these units, and the product of the lengths of those that never change."""
        rows, factor = [], 1.0
        for units in axes:
            indices = np.bincount(self._owner[units], minlength=len(self._units) + 1)
            if not indices[:-1].any():
                factor *= len(units)
                continue
            row = np.array([*(indices[:-1] / self._units), indices[-1], step])
            if row.tobytes() not in self.axes:
                self.axes[row.tobytes()] = len(self.takes)
                self.takes.append(row)
            rows.append(self.axes[row.tobytes()])
        return tuple(sorted(rows)), factor

    def add(self, layer: str, rows: tuple[int, ...], factor: float) -> None:
        """Add a term to a layer."""
        owner = self.names.setdefault(layer, len(self.names))
        self.terms[owner, rows] = self.terms.get((owner, rows), 0.0) + factor

    def done(self) -> Cost:
        """The sum of all terms."""
        groups, count = len(self._units), len(self.takes)
        table = np.array(self.takes).reshape(count, groups + 2)
        width = max((len(rows) for _, rows in self.terms), default=0)
        padded = [[*rows, *[count] * (width - len(rows))] for _, rows in self.terms]
        return Cost(
            Axes(table[:, :groups], table[:, groups], table[:, -1] > 0),
            np.array(padded, np.intp).reshape(len(padded), width),
            np.array(list(self.terms.values())),
            np.array([owner for owner, _ in self.terms], np.intp),
            tuple(self.names),
        )


def parameters(trace: Trace) -> Cost:
    """The number of parameters by tensor, as `Trace.parameters` counts them."""
    built = Builder(trace)
    for name, count in trace.parameter_counts.items():
        rows, factor = built.product(count.axes, step=False)
        built.add(name, rows, factor * count.factor)
    return built.done()


def multiply_adds(trace: Trace) -> Cost:
    """The number of multiply-adds by node, as `Trace.macs` counts them."""
    built = Builder(trace)
    for node, count in trace.multiply_adds:
        rows, factor = built.product(count.axes, step=False)
        built.add(node.outputs[0].name or "", rows, factor * count.factor)
    return built.done()
