"""Several networks of different speed side by side: a table, and the trade-off as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from slimnet.report import charts
from slimnet.report.summary import Report


def pareto(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """One row per folder: what was asked, what was measured, and what it cost."""
    return [{"folder": folder, **_row(report.content)} for folder, report in reports.items()]


def _row(content: Mapping[str, Any]) -> dict[str, Any]:
    target, latency = content["target"], content["latency_ms"]["after"]
    params, macs = (content[key]["after"] / max(content[key]["before"], 1) for key in ("params", "macs"))
    return {
        "asked": target["asked"],
        "measured": target["measured"],
        "ms": latency["median"] if latency else None,
        "flops_speedup": content["speedup"]["flops"],
        "params_left": params,
        "macs_left": macs,
        "importance": target["importance"],
        "accuracy": content["accuracy"]["after"],
    }


def pareto_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for the terminal."""
    table = Table(title="Faster against better", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("folder", "asked", "measured", "FLOPs", "ms", "params", "importance", "accuracy"):
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
    """Accuracy, or importance where there is none, against the measured speedup, as a picture that stands alone."""
    what = "accuracy" if all(row["accuracy"] is not None for row in rows) else "importance"
    return charts.standalone(charts.pareto([(row["measured"], row[what]) for row in rows], what))
