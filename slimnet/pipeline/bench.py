"""Time two ONNX files against each other, and one against a stored baseline."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.layers import macs_by_layer
from slimnet.graph.net import Net
from slimnet.graph.optimise import optimise
from slimnet.graph.trace import trace
from slimnet.io.constants import Constants
from slimnet.io.onnx_file import input_names, load_onnx
from slimnet.pipeline.config import ModelConfig, RunConfig
from slimnet.runtime.feeds import index_bounds
from slimnet.timing.baseline import check, load
from slimnet.timing.baseline import save as save_baseline
from slimnet.timing.conditions import as_net
from slimnet.timing.gate import Verdict, parse_tolerance
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
        dense: The first .onnx file; the candidate, where there is a baseline.
        slim: The .onnx file to compare it with; None compares the first file with itself.
        shapes: The `inputs`, `constants` and `batch` of the files.
        run: The `threads` and `provider` that run the networks; those of the baseline where they are not given.
        clock: The clock that times the steps.
        seconds: The time to spend on the comparison, in seconds.
        layers: Whether to time every layer too.
        save: The JSON file in which the second model is kept as a baseline; None keeps none.
        baseline: The JSON file of the baseline to measure against, in place of a second file.
        tolerance: The largest slowdown against the baseline that is accepted, such as "5%" or "0.05".

    Raises:
        BadInput: files that do not go together, or arguments that do not.
        LatencyRegression: slower than the baseline, beyond noise and tolerance.
    """
    allowed = parse_tolerance(tolerance)
    if baseline is not None:
        if slim is not None or save is not None:
            raise BadInput("`baseline` compares one model with the stored one; leave out the second model and `save`")
        with clock("bench"):
            stored = load(baseline)
            name = run.provider if isinstance(run.provider, str) else None
            candidate = (
                load_onnx(dense, stored.conditions.inputs, shapes.constants).model if shapes.constants else dense
            )
            return check(candidate, stored, allowed, stored.backend(name, run.threads), seconds)
    backend = run.backend
    with clock("bench"):
        nets = [_net(dense, shapes, shapes.constants), _net(slim or dense, shapes, _known(shapes.constants, slim))]
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


def _net(path: Path, shapes: ModelConfig, constants: Constants) -> Net:
    return as_net(path, list(shapes.inputs) or None, shapes.batch, constants)


def _known(constants: Constants, slim: Path | None) -> Constants:
    """The constants of inputs that a slim network still has: those that were bound before it was made are gone."""
    if slim is None or not constants:
        return constants
    names = input_names(slim)
    return {name: value for name, value in constants.items() if name in names}


def shown(result: BenchResult | Verdict) -> Table | str:
    """A result as the terminal shows it."""
    return bench_table(result) if isinstance(result, BenchResult) else "\n".join([f"fine: {result}", *result.remarks])
