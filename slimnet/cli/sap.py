"""The verb `slimnet sap`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import IterativeConfig, RunConfig

if TYPE_CHECKING:
    from rich.table import Table


@o.configured
def sap(
    arch: o.Arch,
    data: Annotated[str, typer.Option(help="Data with a training split, as for prune.")],
    config: IterativeConfig,
    run: Annotated[RunConfig, o.without("out", "data", "calib", "recover")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("sap-slim"),
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to rewind to; random weights if not given.")] = None,
    json: o.Json = False,
) -> None:
    """Prune single weights in turns of training and rewinding: SAP, the lottery ticket, one-shot.

    Every iteration trains from the first weights under the mask so far, and takes the smallest weights out of it. The
    channels that this empties are removed; the folder holds slim.onnx, plan.json and report.json.
    """
    run = o.recorded(replace(run, out=out, data=data))
    with o.watched() as clock:
        from slimnet.pipeline.iterative import prune_single

        report = prune_single(arch, weights, config, run, clock)
    if not json:
        from rich.console import Console

        Console().print(_table(report.content["training"]["search"]["iterations"]))
    o.show_report(report, json, out)


def _table(iterations: Sequence[Mapping[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="Iterations", title_justify="left")
    for heading in ("", "weights left", "validation", "test", "PQ(.5,1)", "PQ(1,2)", "Gini"):
        table.add_column(heading, justify="right")
    for row in iterations:
        val = "" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        figures = (f"{value:.3f}" for value in (*row["pq"], row["gini"]))
        table.add_row(str(row["iteration"]), f"{row['remaining']:.2%}", val, f"{row['test']:.2%}", *figures)
    return table
