"""What a report says about single layers: the widths of every weight, who decides them, and how units were ranked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Bools
from slimnet.graph.op import Role
from slimnet.graph.units import Slot, Trace

#: Bars of a histogram of scores.
BINS = 32


def histogram(scores: npt.NDArray[np.float64], kept: Bools) -> dict[str, Any] | None:
    """How many units of a group lie where, those kept and those removed.

    Args:
        scores: [units]; those that are not finite are left out.
        kept: [units].

    Returns:
        `low` and `high`, and in equal bins between them the counts `kept` and `removed`; None without a finite score.
    """
    finite = np.isfinite(scores)
    if not finite.any():
        return None
    values, stays = scores[finite].astype(np.float64), kept[finite]
    edges = np.histogram_bin_edges(values, BINS) if np.ptp(values) > 0 else np.repeat(values[0], 2)
    low, high = (float(f"{edge:.6g}") for edge in (edges[0], edges[-1]))
    sides = {"kept": values[stays], "removed": values[~stays]}
    if len(edges) == 2:
        return {"low": low, "high": high} | {side: [len(part)] for side, part in sides.items()}
    return {"low": low, "high": high} | {side: np.histogram(part, edges)[0].tolist() for side, part in sides.items()}


def weights(trace: Trace, removed: Bools) -> list[dict[str, Any]]:
    """Every weight whose filters or channels could matter: its axes, before and after, and what decides their size.

    Returns:
        Per weight `name`, `op` that uses it, and `axes`: per axis with a role ("out" for filters, "in" for channels)
        its number `axis`, the sizes `before` and `after`, the `groups` its indices belong to, and the pins that hold
        the others, `pinned`.
    """
    keep = trace.keep(removed)
    owner = np.zeros(trace.n_units, np.int64)
    for number, group in enumerate(trace.groups):
        owner[group.units] = number
    found: dict[str, dict[str, Any]] = {}
    for slot, role, use in zip(trace.slots, trace.roles, trace.uses, strict=True):
        if len(slot.shape) > 1 and role & (Role.OUT | Role.IN):
            entry = found.setdefault(slot.name, {"name": slot.name, "op": use.op, "axes": []})
            entry["axes"].append(_axis(trace, slot, role, keep, owner))
    return list(found.values())


def _axis(trace: Trace, slot: Slot, role: Role, keep: Bools, owner: npt.NDArray[np.int64]) -> dict[str, Any]:
    units = trace.unit_of_id[np.abs(slot.ids)]
    names = [trace.groups[g].name for g in np.unique(owner[units[units >= 0]])]
    pins = [{key: value for key, value in asdict(pin).items() if key not in ("tensor", "axis")}
            for pin in trace.pins_of(slot)]  # fmt: skip
    return {
        "axis": slot.axis,
        "role": "out" if role & Role.OUT else "in",
        "before": len(slot.ids),
        "after": int(keep[np.abs(slot.ids)].sum()),
        "groups": names,
        "pinned": pins,
    }
