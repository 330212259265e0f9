"""What a report says about single layers: the widths of every weight, who decides them, and how units were ranked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Bools
from slimnet.graph.parameters import ParameterAxis, Role
from slimnet.graph.units import Trace
from slimnet.report.schema import Axis, AxisPin, Histogram, Weight

#: Bars of a histogram of scores.
BINS = 32


def histogram(scores: npt.NDArray[np.float64], kept: Bools) -> Histogram | None:
    """How many units of a group lie where, those kept and those removed.

    Args:
        scores: The scores [units]; those that are not finite are left out.
        kept: Which units were kept [units].

    Returns:
        The counts in equal bins from the lowest score to the highest, in one where they are equal; None without a
        finite score.
    """
    finite = np.isfinite(scores)
    if not finite.any():
        return None
    values, kept = scores[finite].astype(np.float64), kept[finite]
    edges = np.histogram_bin_edges(values, BINS) if np.ptp(values) > 0 else np.repeat(values[0], 2)
    low, high = (float(f"{edge:.6g}") for edge in (edges[0], edges[-1]))
    counts = [_counts(part, edges) for part in (values[kept], values[~kept])]
    return Histogram(low=low, high=high, kept=counts[0], removed=counts[1])


def _counts(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> list[int]:
    if len(edges) == 2:
        return [len(values)]
    counts: list[int] = np.histogram(values, edges)[0].tolist()
    return counts


def weights(trace: Trace, removed: Bools) -> list[Weight]:
    """Every weight whose filters or channels could matter: its axes, before and after, and what decides their size."""
    found: dict[str, Weight] = {}
    for axis in trace.parameter_axes:
        if axis.is_weight:
            weight = found.setdefault(axis.name, Weight(name=axis.name, op=axis.use.op, axes=[]))
            weight.axes.append(_axis(trace, axis, removed))
    return list(found.values())


def _axis(trace: Trace, axis: ParameterAxis, removed: Bools) -> Axis:
    units = trace.units_on(*axis.key)
    assert units is not None
    return Axis(
        axis=axis.axis,
        role="out" if axis.role & Role.OUT else "in",
        before=len(units),
        after=int(trace.kept(*axis.key, removed).sum()),
        groups=[trace.groups[g].name for g in np.unique(trace.group_of_unit[units[units >= 0]])],
        pinned=[AxisPin(units=p.units, op=p.op, node=p.node, why=p.why) for p in trace.pins_of(*axis.key)],
    )
