"""What can be removed from a network, what is pinned, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from slimnet.common.clock import Clock
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.pipeline.config import ModelConfig, TraceConfig
from slimnet.pipeline.load import load_network

_ROLES = {1: "out", 2: "in", 4: "along", 8: "untouched"}


def trace_file(model: ModelConfig, cut: TraceConfig, clock: Clock) -> Trace:
    """Load a network and trace it."""
    net = load_network(model, clock)
    with clock("trace"):
        return trace(net, cut.allow_inexact, cut.prefer)


def traced_json(traced: Trace, clock: Clock) -> dict[str, Any]:
    """A trace as plain values, with every group, its members and every pin."""
    groups = [
        {"name": g.name, "units": len(g), "kind": g.kind, "members": [
            {"tensor": m.tensor, "axis": m.axis, "role": _roles(m.role), "use": str(m.use),
             "per_unit": m.index.shape[1]}
            for m in g.members]}
        for g in traced.groups
    ]  # fmt: skip
    return {
        "model": traced.net.name,
        "model_hash": traced.model_hash,
        "params": traced.parameters(),
        "macs": sum(traced.macs().values()),
        "groups": groups,
        "pinned": [asdict(pin) for pin in traced.pins],
        "notes": list(traced.net.notes),
        "timing_s": {step: round(s, 4) for step, s in clock.seconds.items()},
    }


def _roles(role: Any) -> str:
    return "+".join(name for bit, name in _ROLES.items() if int(role) & bit)
