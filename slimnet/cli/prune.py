"""The verb `slimnet prune`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, PruneConfig, RunConfig, TrainConfig

if TYPE_CHECKING:
    from slimnet.report.summary import Report


@o.configured
def prune(config: PruneConfig, model: ModelConfig, run: RunConfig, training: TrainConfig, json: o.Json = False) -> None:
    """Remove the least important channels, prove the result and measure it.

    Writes slim.onnx, plan.json, report.json and report.html to the output folder (MODEL-slim in the working folder if
    not given), and slim.safetensors where the PyTorch class can carry the new widths.

    Methods that train regularise the network first; `--epochs` fine-tunes the small one, on the training split of
    `--data`, watched on its validation split.

    Exit codes: 0 fine, 2 bad input, 3 the small network is not equal to the masked one, 5 training failed, 70 an
    error of slimnet itself.
    """
    run = o.recorded(run, model.model)
    with o.watched() as clock:
        from slimnet.pipeline.prune import prune_file

        reports = prune_file(model, config, run, training, clock)
    if len(reports) > 1:
        _show_trade_off(reports, json, run.folder)
    for report in reports.values() if len(reports) == 1 else ():
        o.show_report(report, json, run.folder)


def _show_trade_off(reports: Mapping[Path, Report], json: bool, out: Path | None) -> None:
    """Print what several targets cost, side by side."""
    from slimnet.report.pareto import pareto, pareto_table

    rows = pareto({folder.name: reports[folder] for folder in sorted(reports)})
    if json:
        o.print_json(rows)
        return
    from rich.console import Console

    console = Console()
    console.print(pareto_table(rows))
    console.print(f"written to {out}", markup=False)
