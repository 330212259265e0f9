"""How large the network is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Size(Section):
    """Parameters and multiply-adds before and after."""

    template = "size.html.j2"

    def collect(self, run: Run) -> Mapping[str, Any]:
        pairs = {"params": run.figures.params, "macs": run.figures.macs}
        return {key: schema.Counts(before=before, after=after) for key, (before, after) in pairs.items()}

    def rows(self, report: Report) -> Iterator[Row]:
        yield _row("parameters", report.params)
        yield _row("MACs", report.macs)


def _row(what: str, counts: schema.Counts) -> Row:
    before, after = counts.before, counts.after
    return Row(what, f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%} left")
