"""How many single weights are left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Sparsity(Section):
    """Weights that are not zero, where single ones were set to zero."""

    template = "sparsity.html.j2"

    def collect(self, run: Run) -> Mapping[str, Any]:
        found = run.figures.sparsity
        return {"sparsity": None if found is None else schema.Sparsity(**found)}

    def rows(self, report: Report) -> Iterator[Row]:
        if report.sparsity is not None:
            total, nonzero = report.sparsity.total, report.sparsity.nonzero
            yield Row("weights not zero", f"{total:,}", f"{nonzero:,}", f"{nonzero / max(total, 1):.2%} left")
