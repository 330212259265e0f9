"""Several runs side by side: what each report.json says in one row, as a table and a plot for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from slimnet.report.schema import Report

#: Characters of the plot.
_WIDTH, _HEIGHT = 56, 14
_MARKS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Row = Mapping[str, Any]


def read_rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per run.

    Args:
        paths: The output folders of `slimnet prune`, or their report.json.

    Returns:
        Per run `run` (the folder), `model`, `method`, `ratio`, `params`, `params_left` (fraction), `macs`,
        `macs_left`, `latency` (ms), `speedup`, `accuracy`, `error` (relative, slim against masked), `unproven` (number
        of groups), and of the dense network `dense_latency` and `dense_accuracy`; what was not measured is None.

    Raises:
        BadInput: A path contains no report, or a damaged one.
    """
    return [_row(name, Report.load(path)) for name, path in zip(_names(paths), paths, strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, or whole paths where those do not tell them apart."""
    folders = [path.parent if path.name == "report.json" else path for path in paths]
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _row(run: str, report: Report) -> dict[str, Any]:
    before, after = report.latency_ms.before, report.latency_ms.after
    ratio = report.how.get("ratio")
    return {
        "run": run,
        "model": report.model,
        "method": str(report.method),
        "ratio": ratio if isinstance(ratio, int | float | str) else None,
        "params": report.params.after,
        "params_left": report.params.after / max(report.params.before, 1),
        "macs": report.macs.after,
        "macs_left": report.macs.after / max(report.macs.before, 1),
        "latency": after and after.median,
        "speedup": report.speedup.latency,
        "accuracy": report.accuracy.after,
        "error": report.verify.max_rel_error,
        "unproven": len(report.verify.unproven),
        "dense_latency": before and before.median,
        "dense_accuracy": report.accuracy.before,
    }


def write_comparison(rows: Sequence[Row], path: Path) -> None:
    """Write runs side by side as a page."""
    from slimnet.report import charts
    from slimnet.report.page import write_page

    dense = {(row["model"], "dense", row["dense_latency"], row["dense_accuracy"]) for row in rows}
    slim = [(row["run"], row["method"], row["latency"], row["accuracy"]) for row in rows]
    points = [point for point in (*slim, *sorted(dense, key=str)) if None not in point]
    chart = charts.tradeoff(points) if points else None
    write_page("compare.html.j2", path, title=f"{len(rows)} runs", rows=rows, chart=chart)


# -- for the terminal ----------------------------------------------------------------------------------------------


def comparison_table(rows: Sequence[Row]) -> Table:
    """One line per run; the letters name its point in the plot."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("run", overflow="fold")
    table.add_column("method", no_wrap=True, max_width=18)
    for heading in ("ratio", "params", "MACs", "ms", "faster", "accuracy", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    marks = _marks(rows)
    for k, row in enumerate(rows):
        table.add_row(
            marks.get(k, ""), Text(row["run"]), Text(row["method"]), Text(_shown(row["ratio"], "{:g}")),
            f"{row['params_left']:.1%}", f"{row['macs_left']:.1%}", _shown(row["latency"], "{:.3g}"),
            _shown(row["speedup"], "{:.2f}x"), _shown(row["accuracy"], "{:.2%}"),
            f"{row['error']:.0e}{'?' if row['unproven'] else ''}",
        )  # fmt: skip
    return table


def _shown(value: Any, form: str) -> str:
    return "" if value is None else value if isinstance(value, str) else form.format(value)


def _marks(rows: Sequence[Row]) -> dict[int, str]:
    """The letter of each run that has both an accuracy and a latency."""
    drawn = [k for k, row in enumerate(rows) if row["accuracy"] is not None and row["latency"] is not None]
    return {k: _MARKS[i % len(_MARKS)] for i, k in enumerate(drawn)}


def comparison_plot(rows: Sequence[Row]) -> str | None:
    """Accuracy over latency in letters; None unless two runs have both."""
    marks = _marks(rows)
    if len(marks) < 2:
        return None
    x, y = [rows[k]["latency"] for k in marks], [100 * rows[k]["accuracy"] for k in marks]
    field = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for mark, ms, percent in zip(marks.values(), x, y, strict=True):
        column, line = _place(ms, x, _WIDTH), _HEIGHT - 1 - _place(percent, y, _HEIGHT)
        field[line][column] = mark if field[line][column] == " " else "*"
    labels = [f"{max(y):6.2f} %"] + [" " * 8] * (_HEIGHT - 2) + [f"{min(y):6.2f} %"]
    low, high = f"{min(x):.3g}", f"{max(x):.3g} ms"
    lines = [f"{label} │{''.join(line)}".rstrip() for label, line in zip(labels, field, strict=True)]
    axis = [" " * 9 + "└" + "─" * _WIDTH, " " * 10 + low + high.rjust(_WIDTH - len(low))]
    return "\n".join(["accuracy against latency", *lines, *axis])


def _place(value: float, values: Sequence[float], size: int) -> int:
    low, high = min(values), max(values)
    return round((size - 1) * (value - low) / (high - low)) if high > low else size // 2
