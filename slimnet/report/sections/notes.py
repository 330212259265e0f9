"""What else the user should know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Section


class Notes(Section):
    """Remarks on the run; the command line prints them below the table."""

    template, anchor = "notes.html.j2", "notes"

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {"notes": list(run.notes)}

    def show(self, report: Report) -> Mapping[str, Any] | None:
        return {} if report.notes else None
