"""What a report says about single layers: the widths of every weight, who decides them, and how units were ranked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Bools
from slimnet.graph.op import Role
from slimnet.graph.units import Slot, Trace
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
    keep = trace.keep(removed)
    owner = np.zeros(trace.n_units, np.int64)
    for number, group in enumerate(trace.groups):
        owner[group.units] = number
    found: dict[str, Weight] = {}
    for slot, role, use in zip(trace.slots, trace.roles, trace.uses, strict=True):
        if len(slot.shape) > 1 and role & (Role.OUT | Role.IN):
            weight = found.setdefault(slot.name, Weight(name=slot.name, op=use.op, axes=[]))
            weight.axes.append(_axis(trace, slot, role, keep, owner))
    return list(found.values())


def _axis(trace: Trace, slot: Slot, role: Role, keep: Bools, owner: npt.NDArray[np.int64]) -> Axis:
    units = trace.unit_of_id[np.abs(slot.ids)]
    return Axis(
        axis=slot.axis,
        role="out" if role & Role.OUT else "in",
        before=len(slot.ids),
        after=int(keep[np.abs(slot.ids)].sum()),
        groups=[trace.groups[g].name for g in np.unique(owner[units[units >= 0]])],
        pinned=[AxisPin(units=p.units, op=p.op, node=p.node, why=p.why) for p in trace.pins_of(slot)],
    )
