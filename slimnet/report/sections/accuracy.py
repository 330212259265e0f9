"""What it cost in accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Accuracy(Section):
    """Accuracies before and after, and between the steps."""

    template = "accuracy.html.j2"

    def collect(self, run: Run) -> Mapping[str, Any]:
        measured = run.figures.accuracy.get
        steps = ("before", "pruned", "recovered", "after")
        found = schema.Accuracy(**{step: measured(step) for step in steps})
        return {"accuracy": found}

    def rows(self, report: Report) -> Iterator[Row]:
        found = report.accuracy
        if found.before is not None and found.pruned is not None:
            yield _row("accuracy as cut", found.before, found.pruned)
        if found.before is not None and found.recovered is not None:
            yield _row("accuracy recovered", found.before, found.recovered)
        if found.before is not None and found.after is not None:
            yield _row("accuracy", found.before, found.after)


def _row(what: str, before: float, after: float) -> Row:
    return Row(what, f"{before:.2%}", f"{after:.2%}", f"{100 * (after - before):+.2f} points")
