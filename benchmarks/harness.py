"""One measurement in a process of its own, so that memory is freed, a crash is a row, and the peak is the run's own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def run(script: Path, arguments: Sequence[str], timeout: float, settings: Mapping[str, str] | None = None) -> Row:
    """Run `python script *arguments FILE`, which writes a row to FILE, with these environment variables added.

    Returns:
        The row with "seconds" (wall clock of the whole command) and "peak_gib" added, or {"failed": reason, ...}.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "row.json", Path(folder) / "log"
        command = [sys.executable, "-W", "ignore", str(script), *arguments, str(out)]
        started = time.perf_counter()
        with log.open("w") as stream:
            environment = {**os.environ, "STARTED": str(time.time()), **(settings or {})}
            process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, env=environment)
            status, usage = _wait(process, timeout)
        row = json.loads(out.read_text()) if out.exists() else {"failed": _reason(status, log, timeout)}
        row["seconds"] = round(time.perf_counter() - started, 1)
        row["peak_gib"] = round(usage / 2**20, 2)
        return row


def _wait(process: subprocess.Popen[bytes], timeout: float) -> tuple[int | None, float]:
    """Exit status (None: killed for taking too long) and peak memory in KiB."""
    deadline = time.monotonic() + timeout
    late = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return None if late else process.returncode, usage.ru_maxrss
        if time.monotonic() > deadline and not late:
            os.killpg(process.pid, signal.SIGKILL)
            late = True
        time.sleep(0.05)


def _reason(status: int | None, log: Path, timeout: float) -> str:
    if status is None:
        return f"no result within {timeout:.0f} s"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"exit code {status}"


def read(file: Path) -> Row:
    """What an earlier run left; an empty table if there was none."""
    return json.loads(file.read_text()) if file.exists() else {}


def write(file: Path, table: Row) -> None:
    """Replace a file by the table as JSON."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(table, indent=1) + "\n")
    temporary.replace(file)


def commit() -> str:
    """The commit that is checked out, shortened; nothing outside a repository."""
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def versions(*packages: str) -> str:
    """The versions that matter for a table, on one line."""
    found = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *found, f"{os.cpu_count()} cores"])


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; the first column is left-aligned."""
    lines = ["| " + " | ".join(columns) + " |", "|:--" + "|--:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).replace("|", "\\|")
