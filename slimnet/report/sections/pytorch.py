"""What became of the PyTorch module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class PyTorch(Section):
    """Whether the PyTorch class can carry the new widths; the page says so in its proof."""

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {"torch": None if run.torch_side is None else schema.Torch(**run.torch_side)}

    def rows(self, report: Report) -> Iterator[Row]:
        if report.torch is not None:
            yield Row("PyTorch module", after="survives" if report.torch.survives else "does not")
