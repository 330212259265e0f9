"""The verb `slimnet shrink`."""

from __future__ import annotations

from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, RunConfig


@o.configured
def shrink(
    model: Annotated[ModelConfig, o.without("batch")],
    run: Annotated[RunConfig, o.without("calib", "recover")],
    absorb: Annotated[
        bool,
        typer.Option("--absorb", help="Fold what zero filters leave behind (bias, BN) into the next bias, if exact."),
    ] = False,
    assume_masked: Annotated[
        bool,
        typer.Option("--assume-masked", help="Remove zero filters although bias or BN leaves a constant."),
    ] = False,
    gather: Annotated[
        bool,
        typer.Option("--gather", help="Also skip inputs (pixels, positions of a flattened map) that no layer weighs."),
    ] = False,
    json: o.Json = False,
) -> None:
    """Remove the channels that are zero already, whichever tool made them so; the outputs stay the same."""
    run = o.recorded(run, model.model)
    with o.watched() as clock:
        from slimnet.pipeline.shrink import shrink_file

        report = shrink_file(model, run, clock, absorb=absorb, assume_masked=assume_masked, gather=gather)
    o.show_report(report, json, run.folder)
