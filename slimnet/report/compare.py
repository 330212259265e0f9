"""Several runs side by side: what each report.json says in one row, as a table and a plot for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file

#: No report comes near: a larger file is something else.
MAX_BYTES = 1 << 28
#: Characters of the plot.
_WIDTH, _HEIGHT = 56, 14
_MARKS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Row = Mapping[str, Any]


def read_rows(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per run.

    Args:
        paths: output folders of `slimnet prune`, or their report.json.

    Returns:
        Per run `run` (the folder), `model`, `method`, `ratio`, `params`, `params_left` (fraction), `macs`,
        `macs_left`, `latency` (ms), `speedup`, `accuracy`, `error` (relative, slim against masked), `unproven` (number
        of groups), and of the dense network `dense_latency` and `dense_accuracy`; what was not measured is None.

    Raises:
        BadInput: a path that holds no report.
    """
    return [_row(name, _read(path)) for name, path in zip(_names(paths), paths, strict=True)]


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, or whole paths where those do not tell them apart."""
    folders = [path.parent if path.name == "report.json" else path for path in paths]
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _read(path: Path) -> Any:
    file = path / "report.json" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise BadInput(f"{path}: has no report.json; give output folders of slimnet prune")
    if existing_file(file).stat().st_size > MAX_BYTES:
        raise BadInput(f"{file}: is too large for a report; give output folders of slimnet prune")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        _row("", content)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{file}: is not a report; give output folders of slimnet prune") from None
    return content


def _row(run: str, r: Any) -> dict[str, Any]:
    before, latency, accuracy = r["latency_ms"]["before"], r["latency_ms"]["after"], r["accuracy"]
    ratio = (r.get("how") or {}).get("ratio")
    return {
        "run": run,
        "model": str(r["model"]),
        "method": str(r["method"]),
        "ratio": ratio if isinstance(ratio, int | float | str) else None,
        "params": int(r["params"]["after"]),
        "params_left": r["params"]["after"] / max(r["params"]["before"], 1),
        "macs": int(r["macs"]["after"]),
        "macs_left": r["macs"]["after"] / max(r["macs"]["before"], 1),
        "latency": _float(latency["median"] if latency else None),
        "speedup": _float(r["speedup"]["latency"]),
        "accuracy": _float(accuracy["after"]),
        "error": float(r["verify"]["max_rel_error"]),
        "unproven": len(r["verify"]["unproven"]),
        "dense_latency": _float(before["median"] if before else None),
        "dense_accuracy": _float(accuracy["before"]),
    }


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


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
