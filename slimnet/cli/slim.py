"""The verb `slimnet slim`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, RunConfig


@o.configured
def slim(
    model: Annotated[ModelConfig, o.without("batch")],
    run: RunConfig,
    plan: Annotated[Path | None, typer.Option(help="plan.json of an earlier run.")] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help=".npz of boolean masks per parameter (true stays) or indices to keep; NAME:AXIS for others."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Remove what a plan or a set of masks says."""
    run = o.recorded(run, model.model)
    with o.watched() as clock:
        from slimnet.pipeline.apply import slim_file

        report = slim_file(model, plan, mask, run, clock)
    o.show_report(report, json, run.folder)
