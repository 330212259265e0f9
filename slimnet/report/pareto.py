"""Several networks of different speed side by side: a table, and the trade-off as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from slimnet.report import charts
from slimnet.report.schema import Report


def pareto(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """One row per folder: what was asked, what was measured, and what it cost."""
    return [{"folder": folder, **_row(report)} for folder, report in reports.items()]


def _row(report: Report) -> dict[str, Any]:
    target, latency = report.target, report.latency_ms.after
    assert target is not None, "only runs towards targets are compared"
    return {
        "asked": target.asked,
        "measured": target.measured,
        "ms": latency and latency.median,
        "flops_speedup": report.speedup.flops,
        "params_left": report.params.after / max(report.params.before, 1),
        "macs_left": report.macs.after / max(report.macs.before, 1),
        "importance": target.importance,
        "accuracy": report.accuracy.after,
    }


def pareto_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for the terminal."""
    table = Table(title="Faster against better", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("folder", "asked", "measured", "MACs", "ms", "params", "importance", "accuracy"):
        table.add_column(heading, justify="left" if heading == "folder" else "right")
    for row in rows:
        table.add_row(
            str(row["folder"]),
            f"{row['asked']:.2f}x",
            f"{row['measured']:.2f}x",
            f"{row['flops_speedup']:.2f}x",
            "" if row["ms"] is None else f"{row['ms']:.3g}",
            f"{row['params_left']:.1%}",
            f"{row['importance']:.1%}",
            "" if row["accuracy"] is None else f"{row['accuracy']:.2%}",
        )
    return table


def pareto_svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy, or importance where there is none, against the measured speedup, as a chart that stands alone."""
    what = "accuracy" if all(row["accuracy"] is not None for row in rows) else "importance"
    return charts.standalone(charts.pareto([(row["measured"], row[what]) for row in rows], what))
