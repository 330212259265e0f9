"""Which inputs a Gather skips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Gathered(Section):
    """Per weight the inputs it reads, where the others are skipped; the page says so in its proof."""

    def collect(self, run: Run) -> Mapping[str, Any]:
        pairs = run.figures.gathered.items()
        return {"gathered": {name: schema.Counts(before=before, after=after) for name, (before, after) in pairs}}

    def rows(self, report: Report) -> Iterator[Row]:
        for name, inputs in report.gathered.items():
            yield Row(f"inputs read by {name}", f"{inputs.before:,}", f"{inputs.after:,}")
