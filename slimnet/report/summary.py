"""The report of a run, and its summary table: what the sections collect and what they say, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from slimnet.graph.axes import Bools
from slimnet.graph.plan import Plan
from slimnet.graph.units import Trace
from slimnet.report.run import Measured, Run
from slimnet.report.schema import Report
from slimnet.report.section import Section
from slimnet.report.sections import SECTIONS
from slimnet.verification.verify import Verification


def summarise(
    trace: Trace,
    removed: Bools,
    plan: Plan,
    checked: Verification,
    figures: Measured,
    seconds: Mapping[str, float],
    torch_side: Mapping[str, Any] | None,
    notes: Sequence[str],
    training: Mapping[str, Any],
    sections: Sequence[Section] = SECTIONS,
) -> Report:
    """The report of what a run found: see `Run` for the arguments."""
    run = Run(trace, removed, plan, checked, figures, seconds, torch_side, notes, training)
    return Report.of({key: value for section in sections for key, value in section.collect(run).items()})


def summary_table(report: Report, sections: Sequence[Section] = SECTIONS) -> Table:
    """One table that says what changed."""
    table = Table(title=f"{report.model}: {report.method}", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("", "before", "after", "change"):
        table.add_column(heading, justify="left" if not heading else "right")
    for section in sections:
        for row in section.rows(report):
            table.add_row(*row)
    return table
