"""Time two ONNX files against each other, and one against a stored baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slimnet.graph.layers import macs_by_layer
from slimnet.graph.optimise import optimise
from slimnet.graph.trace import trace
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import index_bounds
from slimnet.timing.baseline import save as save_baseline
from slimnet.timing.conditions import as_net
from slimnet.timing.result import BenchResult
from slimnet.timing.run import bench, check_alike


def bench_files(
    dense: Path,
    slim: Path,
    inputs: Sequence[str] | None,
    backend: Backend,
    batch: int | None,
    seconds: float,
    layers: bool,
    save: Path | None = None,
) -> BenchResult:
    """Time two ONNX files, both after the same optimiser; `save` keeps the second one as a baseline."""
    nets = [as_net(path, list(inputs or ()) or None, batch) for path in (dense, slim)]
    check_alike(*nets)
    traces = [trace(net) for net in nets]
    models = [replace(net, model=optimise(net.model)) for net in nets]
    macs = (macs_by_layer(traces[0]), macs_by_layer(traces[1]))
    bounds = index_bounds(traces[0])
    result = bench(
        models[0].model, models[1].model, nets[0].inputs, backend, None, seconds, layers, macs=macs, bounds=bounds
    )
    if save is not None:
        save_baseline(save, models[1].model, result)
    return result
