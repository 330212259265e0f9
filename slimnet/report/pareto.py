"""Several networks of different speed side by side: a table, and the trade-off as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from slimnet.report.summary import Report

_WIDTH, _HEIGHT, _MARGIN = 480, 320, 56


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
    most = max(row["measured"] for row in rows) * 1.1
    points = [(_x(row["measured"], most), _y(row[what]), f"{row['measured']:.2f}x, {row[what]:.1%}") for row in rows]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in sorted(points))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><text x="{x:.1f}" y="{y - 9:.1f}" '
                   f'text-anchor="middle">{label}</text>' for x, y, label in points)  # fmt: skip
    ticks = "".join(f'<text x="{_MARGIN - 6}" y="{_y(v) + 4:.1f}" text-anchor="end">{v:.0%}</text>'
                    for v in (0.0, 0.25, 0.5, 0.75, 1.0))  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<path d="M{_MARGIN},{_y(1)}V{_y(0)}H{_x(most, most)}" fill="none" stroke="black"/>{ticks}'
        f'<polyline points="{path}" fill="none" stroke="#888"/>{dots}'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 14}" text-anchor="middle">times faster, measured</text>'
        f'<text x="{_MARGIN}" y="18">{what}</text></svg>\n'
    )


def _x(speedup: float, most: float) -> float:
    return _MARGIN + (_WIDTH - 2 * _MARGIN) * (speedup - 1) / max(most - 1, 1e-9)


def _y(share: float) -> float:
    return _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * share
