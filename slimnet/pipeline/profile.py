"""Where the time of a network goes, and what other widths would cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from slimnet.common.clock import Clock
from slimnet.graph.layers import layer_name, macs_by_layer
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.pipeline.config import ModelConfig, RunConfig, TraceConfig
from slimnet.pipeline.load import load_network
from slimnet.pipeline.search import LatencySearch, Stopwatch, problem


def profile_file(model: ModelConfig, cut: TraceConfig, run: RunConfig, clock: Clock) -> dict[str, Any]:
    """Profile a file with `threads` and `provider` of the run: see `profile`."""
    backend = run.backend
    net = load_network(model, clock)
    with clock("trace"):
        traced = trace(net, cut.allow_inexact, cut.prefer)
    return profile(traced, LatencySearch(lambda t: Stopwatch(t, backend)), clock)


def profile(trace: Trace, search: LatencySearch, clock: Clock) -> dict[str, Any]:
    """Where the time of a network goes, layer by layer, and what the widths of each group would cost.

    Returns:
        Plain values: `layers` with measured `ms`, `share` of the whole, `macs` and `widths` of the matrix product;
        `groups` with `widths`, each with the predicted `ms` of the network when only this group has so many `units`;
        the measured total `ms` spent in nodes, and `model_error`.
    """
    chosen = problem(trace, [np.ones(len(group)) for group in trace.groups])
    model = search.latency_model(chosen, clock)
    macs = macs_by_layer(trace)
    widths: dict[str, list[int]] = {}
    for node, count in trace.multiply_adds:
        widths.setdefault(layer_name(node), [len(units) for units in count.axes if len(units) > 1])
    total, dense = sum(model.dense.values()), chosen.choices.most
    layers = [
        {"name": name, "ms": ms, "share": ms / total, "macs": macs.get(name), "widths": widths.get(name, [])}
        for name, ms in sorted(model.dense.items(), key=lambda item: -item[1])
    ]
    groups = []
    for g, group in enumerate(trace.groups):
        counts = chosen.choices.counts[g]
        times = model.cost.along(dense, g, counts)
        steps = [{"units": n, "ms": ms} for n, ms in zip(counts.tolist(), times.tolist(), strict=True)]
        groups.append({"name": group.name, "units": len(group), "widths": steps})
    error = asdict(model.error) if model.error is not None else None
    return {"model": trace.net.name, "ms": total, "layers": layers, "groups": groups, "model_error": error,
            "notes": list(trace.net.notes)}  # fmt: skip
