"""The verb `slimnet recover`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, RunConfig


@o.configured
def recover(
    plan: Annotated[Path, typer.Argument(help="The folder of an earlier run, its plan.json, or an .npz of masks.")],
    dense: Annotated[Path, typer.Argument(help="The dense network, in any form that prune takes.")],
    model: Annotated[ModelConfig, o.without("model", "batch")],
    run: Annotated[RunConfig, o.without("recover")],
    json: o.Json = False,
) -> None:
    """Fit the weights that a plan keeps to what the dense network gives on inputs, after the plan was made.

    The plan may be one of slimnet, or the masks of another tool (an .npz of boolean masks per parameter). Results go to
    the folder of the plan if no other is named. The inputs need no labels: `--calib`, or the training split of
    `--data`.
    """
    folder = plan if plan.is_dir() else plan.parent
    run = o.recorded(replace(run, out=run.out or folder))
    with o.watched() as clock:
        from slimnet.pipeline.apply import recover_file

        report = recover_file(replace(model, model=dense), plan, run, clock)
    o.show_report(report, json, run.folder)
