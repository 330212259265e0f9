"""The verb `slimnet bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.settings import DAY
from slimnet.pipeline.config import ModelConfig, RunConfig


@o.configured
def bench(
    dense: Annotated[Path, typer.Argument(help="An .onnx file; the candidate, if --baseline is given.")],
    shapes: Annotated[ModelConfig, o.only("inputs", "constants", "batch")],
    run: Annotated[RunConfig, o.only("threads", "provider")],
    slim: Annotated[Path | None, typer.Argument(help="The .onnx file to compare with.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=DAY, help="Seconds to spend on the comparison.")] = 10.0,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="Also time every layer.")] = True,
    save: Annotated[Path | None, typer.Option(help="Keep the last model as a baseline: JSON and a copy of it.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Measure against a saved baseline instead.")] = None,
    tolerance: Annotated[str, typer.Option(help="How much slower than the baseline is still fine.")] = "5%",
    json: o.Json = False,
) -> None:
    """Time two models against each other, run by run, or one against a saved baseline.

    With --baseline the exit code is 4 if the model is slower than the baseline beyond both noise and tolerance.
    """
    with o.watched() as clock:
        from slimnet.pipeline.bench import bench_files, shown

        result = bench_files(
            dense, slim, shapes, run, clock, seconds=seconds, layers=layers, save=save, baseline=baseline,
            tolerance=tolerance,
        )  # fmt: skip
    if json:
        o.print_json(result.to_json())
    else:
        from rich.console import Console

        Console().print(shown(result), markup=False, highlight=False)
