"""How the run was made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from slimnet.common.version import __version__
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Section
from slimnet.runtime.onnxruntime import NAME, VERSION


class Made(Section):
    """The network, the method and its settings, the command, the conditions of the timing, versions and durations."""

    template, anchor, link = "made.html.j2", "made", "How it was made"

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {
            "model": run.trace.net.name,
            "method": run.plan.provenance.get("method"),
            "how": run.plan.provenance,
            "command": run.figures.command,
            "timing_s": {step: round(seconds, 4) for step, seconds in run.seconds.items()},
            "versions": {"slimnet": __version__, NAME: VERSION, "python": platform.python_version()},
        }

    def show(self, report: Report) -> Mapping[str, Any] | None:
        return {"settings": _settings(report)}


def _settings(report: Report) -> dict[str, Any]:
    """How the run was made, as a list of names and values."""
    how = {key: value for key, value in report.how.items() if value is not None and value != {}}
    settings = {name: phase.get("settings") or {} for name, phase in report.training.items()}
    seeds = {f"seed of {name}": own["seed"] for name, own in settings.items() if "seed" in own}
    options = {f"option {key}": value for key, value in (how.pop("options", None) or {}).items()}
    return how | options | seeds
