"""The verb `slimnet eval`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, RunConfig


@o.configured
def eval(
    model: Annotated[ModelConfig, o.without("batch")],
    data: Annotated[str, typer.Option(help="Data to measure on, as for prune.")],
    run: Annotated[RunConfig, o.only("threads", "provider")],
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Samples at a time, where the model leaves it open; 64 if not given."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure the accuracy of a classifier on data, as onnxruntime computes it.

    Every sample counts once, whatever the batch; the first output holds the scores of the classes.
    """
    with o.watched() as clock:
        from slimnet.pipeline.evaluate import evaluate_file

        found = evaluate_file(replace(model, batch=batch), replace(run, data=data), split, clock)
    if json:
        o.print_json(found)
        return
    counts = f"{found['correct']:,} of {found['samples']:,}, {found['split']} split of {found['data']}"
    print(f"accuracy {100 * found['accuracy']:.2f} % ({counts})")
