"""The verb `slimnet compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Output folders of slimnet prune.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the comparison as an .html page.")] = None,
    json: o.Json = False,
) -> None:
    """Put several runs side by side: one table, and accuracy against latency.

    The error is that of the small network against the masked one; a question mark says that some groups are unproven.
    """
    from slimnet.pipeline.compare import compare_runs

    rows = compare_runs(runs, out)
    if json:
        o.print_json(rows)
        return
    from rich.console import Console

    from slimnet.report.compare import comparison_plot, comparison_table

    console = Console()
    console.print(comparison_table(rows))
    plot = comparison_plot(rows)
    if plot is not None:
        console.print(plot, markup=False, highlight=False)
    if out is not None:
        console.print(f"written to {out}", markup=False)
