"""What fitting the weights that stay has recovered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Recovery(Section):
    """How the slim network agrees with the dense one on inputs held back, with and without fitted weights."""

    template, anchor, link = "recovery.html.j2", "recovery", "Recovery"

    def collect(self, run: Run) -> Mapping[str, Any]:
        found = run.figures.recovery
        if found is None:
            return {"recovery": None}
        pruned, recovered = (schema.Agreement(**a.to_json()) for a in (found.before, found.after))
        return {
            "recovery": schema.Recovery(
                inputs=run.figures.recovered_on,
                fitted_to=found.inputs,
                held_back=found.held,
                pruned=pruned,
                recovered=recovered if found.weights else None,
                layers={name: list(errors) for name, errors in found.errors.items()},
            )
        }

    def rows(self, report: Report) -> Iterator[Row]:
        found = report.recovery
        if found is None:
            return
        before, after = found.pruned, found.recovered or found.pruned
        if before.top1 is not None and after.top1 is not None:
            yield Row("agreement as cut", "100.00%", f"{before.top1:.2%}")
            yield Row("agreement recovered", "100.00%", f"{after.top1:.2%}")
        else:
            yield Row("distance as cut", "0", f"{before.distance:.3g}")
            yield Row("distance recovered", "0", f"{after.distance:.3g}")

    def show(self, report: Report) -> Mapping[str, Any] | None:
        return None if report.recovery is None else {}
