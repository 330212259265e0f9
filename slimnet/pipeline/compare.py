"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimnet.report.compare import read_rows, write_comparison


def compare_runs(folders: Sequence[Path], out: Path | None) -> list[dict[str, Any]]:
    """One row per run, see `report.compare.read_rows`; also written as an .html page where `out` names one."""
    rows = read_rows(folders)
    if out is not None:
        write_comparison(rows, out)
    return rows
