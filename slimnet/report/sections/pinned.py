"""What must stay, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Section


class Pinned(Section):
    """The pins of the trace."""

    template, anchor, link = "pinned.html.j2", "pinned", "What is pinned"

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {"pinned": [schema.Pin(**asdict(pin)) for pin in run.trace.pins]}

    def show(self, report: Report) -> Mapping[str, Any] | None:
        return {} if report.pinned else None
