"""A section of a report as somebody else would write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Carbon(Section):
    """Grams of carbon dioxide that a million runs cost."""

    template, anchor, link = "carbon.html.j2", "carbon", "Carbon"

    def collect(self, run: Run) -> Mapping[str, Any]:
        before, after = run.figures.macs
        return {"carbon": {"before": before * 1e-3, "after": after * 1e-3}}

    def rows(self, report: Report) -> Iterator[Row]:
        grams = report.more["carbon"]
        yield Row("carbon", f"{grams['before']:.0f} g", f"{grams['after']:.0f} g")

    def show(self, report: Report) -> Mapping[str, Any]:
        return report.more["carbon"]
