"""Time two ONNX files against each other, and one against a stored baseline."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.layers import macs_by_layer
from slimnet.graph.optimise import optimise
from slimnet.graph.trace import trace
from slimnet.pipeline.config import ModelConfig, RunConfig
from slimnet.runtime.feeds import index_bounds
from slimnet.timing.baseline import check, load
from slimnet.timing.baseline import save as save_baseline
from slimnet.timing.conditions import as_net
from slimnet.timing.gate import Verdict
from slimnet.timing.result import BenchResult
from slimnet.timing.run import bench, check_alike
from slimnet.timing.table import bench_table


def bench_files(
    dense: Path,
    slim: Path | None,
    shapes: ModelConfig,
    run: RunConfig,
    clock: Clock,
    *,
    seconds: float = 10.0,
    layers: bool = True,
    save: Path | None = None,
    baseline: Path | None = None,
    tolerance: str = "5%",
) -> BenchResult | Verdict:
    """Time two files against each other, both after the same optimiser, or one against a baseline.

    Args:
        dense: a file; the candidate, where there is a baseline.
        slim: the file to compare it with; itself if None.
        shapes: `inputs` and `batch` of the files.
        run: `threads` and `provider` run the networks; those of the baseline where they are not given.
        clock: times the steps.
        seconds: to spend on the comparison.
        layers: also time every layer.
        save: keep the second model as a baseline there.
        baseline: measure against that baseline instead.
        tolerance: how much slower than the baseline is still fine.

    Raises:
        BadInput: files that do not go together, or arguments that do not.
        LatencyRegression: slower than the baseline, beyond noise and tolerance.
    """
    if baseline is not None:
        if slim is not None or save is not None:
            raise BadInput("`baseline` compares one model with the stored one; leave out the second model and `save`")
        with clock("bench"):
            stored = load(baseline)
            name = run.provider if isinstance(run.provider, str) else None
            return check(dense, stored, tolerance, stored.backend(name, run.threads), seconds)
    backend = run.backend
    with clock("bench"):
        nets = [as_net(path, list(shapes.inputs) or None, shapes.batch) for path in (dense, slim or dense)]
        check_alike(*nets)
        traces = [trace(net) for net in nets]
        before, after = (optimise(net.model) for net in nets)
        result = bench(
            before,
            after,
            nets[0].inputs,
            backend,
            seconds=seconds,
            layers=layers,
            macs=(macs_by_layer(traces[0]), macs_by_layer(traces[1])),
            bounds=index_bounds(traces[0]),
        )
        if save is not None:
            save_baseline(save, after, result)
    return result


def shown(result: BenchResult | Verdict) -> Table | str:
    """A result for the terminal."""
    return bench_table(result) if isinstance(result, BenchResult) else "\n".join([f"fine: {result}", *result.remarks])
