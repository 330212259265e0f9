"""slimnet bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.errors import BadInput


def bench(
    dense: Annotated[Path, typer.Argument(help="An .onnx file; the candidate, if --baseline is given.")],
    slim: Annotated[Path | None, typer.Argument(help="The .onnx file to compare with.")] = None,
    input_: o.Input = None,
    threads: o.Threads = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Size of the first axis, where the model leaves it open.")]
    = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds to spend on the comparison.")] = 10.0,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="Also time every layer.")] = True,
    save: Annotated[Path | None, typer.Option(help="Keep the last model as a baseline: JSON and a copy of it.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Measure against a saved baseline instead.")] = None,
    tolerance: Annotated[str, typer.Option(help="How much slower than the baseline is still fine.")] = "5%",
    json: o.Json = False,
) -> None:  # fmt: skip
    """Time two models against each other, run by run, or one against a saved baseline.

    With --baseline the exit code is 4 if the model is slower than the baseline beyond both noise and tolerance.
    """
    if baseline is not None:
        if slim is not None or save is not None:
            raise BadInput("--baseline compares one model with the stored one; leave out the second model and --save")
        return _check(dense, baseline, tolerance, threads, seconds, json)
    import json as encoder

    from rich.console import Console

    with o.watched() as clock:
        from slimnet.pipeline.bench import bench_files
        from slimnet.runtime.onnxruntime import OnnxRuntime
        from slimnet.timing.table import bench_table

        with clock("bench"):
            result = bench_files(
                dense, slim or dense, input_, OnnxRuntime(threads=threads), batch, seconds, layers, save
            )
    if json:
        print(encoder.dumps(result.to_json(), indent=2))
    else:
        Console().print(bench_table(result))
    return None


def _check(candidate: Path, baseline: Path, tolerance: str, threads: int | None, seconds: float, json: bool) -> None:
    import json as encoder

    from slimnet.timing.baseline import check, load

    with o.watched() as clock, clock("bench"):
        stored = load(baseline)
        verdict = check(candidate, stored, tolerance, stored.backend(threads=threads), seconds)
    print(encoder.dumps(verdict.to_json(), indent=2) if json else "\n".join([f"fine: {verdict}", *verdict.remarks]))
