"""Why every layer is as large as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimnet.report.explain import stories, timed_layers
from slimnet.report.layers import weights
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Section


class Layers(Section):
    """The weights and what decides their sizes, layer by layer."""

    template, anchor, link = "layers.html.j2", "layers", "Why is this layer not smaller?"

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {"weights": weights(run.trace, run.removed)}

    def show(self, report: Report) -> Mapping[str, Any] | None:
        if not report.weights:
            return None
        return {"stories": stories(report.content), "timed": bool(timed_layers(report.content))}
