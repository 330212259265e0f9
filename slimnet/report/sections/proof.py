"""Whether the slim network is the masked one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Proof(Section):
    """The comparison of slim and masked network, and whether it could have failed."""

    template, anchor, link = "proof.html.j2", "proof", "Proof"

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {"verify": schema.Verify(**run.checked.to_json())}

    def rows(self, report: Report) -> Iterator[Row]:
        found = report.verify
        # A report is only ever made of equal networks; where no difference could have shown, that is not called exact.
        state = "unproven" if found.unproven else "exact"
        yield Row("slim = masked", "", state, f"{found.max_rel_error:.1e} (allowed {found.tolerance:.0e})")
        if found.proven or found.unproven:
            total = len(found.proven) + len(found.unproven)
            inside = f"{len(found.inside)} of them inside" if found.inside else ""
            yield Row("groups proven", after=f"{len(found.proven)} of {total}", change=inside)
        if found.rounding is not None:
            yield Row("rounding alone moves it by", change=f"{found.rounding:.0e}")
        if found.plain_mask_error is not None:
            yield Row("inexact: distance to mask", change=f"{found.plain_mask_error:.1e}")
        if found.dense_error is not None:
            yield Row("distance to the original", change=f"{found.dense_error:.1e}")

    def show(self, report: Report) -> Mapping[str, Any] | None:
        return {}
