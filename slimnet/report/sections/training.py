"""How the network was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimnet.report import charts
from slimnet.report.run import Run
from slimnet.report.schema import Epoch, Iteration, Phase, Report
from slimnet.report.section import Section

#: The published pairs p, q of the PQ index, in the order of reports.
PQ_PAIRS = ("p 0.5, q 1", "p 1, q 2")
#: Figures of an epoch that go by another name than their key.
_NAMES = {"lr": "learning rate"}


class Training(Section):
    """The curves and settings of every phase of training."""

    template, anchor, link = "training.html.j2", "training", "Training"

    def collect(self, run: Run) -> Mapping[str, Any]:
        return {"training": dict(run.training)}

    def show(self, report: Report) -> Mapping[str, Any] | None:
        phases = [_phase(name, phase) for name, phase in report.training.items()]
        return {"phases": phases} if phases else None


def _phase(name: str, phase: Phase) -> dict[str, Any]:
    """The name, curves and settings of a phase."""
    epochs, iterations = phase.get("epochs") or [], phase.get("iterations") or []
    panels = _panels(epochs) | _iterations(iterations)
    rest = {key: value for key, value in phase.items() if key not in ("epochs", "iterations", "settings")}
    return {
        "name": name,
        "count": f"{len(epochs)} epochs" if epochs else f"{len(iterations)} iterations",
        "settings": (phase.get("settings") or {}) | rest,
        "chart": charts.curves(panels) if panels else None,
    }


def _panels(epochs: Sequence[Epoch]) -> dict[str, charts.Series]:
    """One panel per figure that was recorded; "norm kept" and "norm removed" share the panel "norm"."""
    names = [n for n in dict.fromkeys(key for epoch in epochs for key in epoch) if n != "epoch"]
    panels: dict[str, Any] = {}
    for name in names:
        values = [epoch.get(name) for epoch in epochs]
        if any(isinstance(v, int | float) and v == v for v in values):
            title, _, label = name.partition(" ")
            x = [epoch.get("epoch", k) + 1 for k, epoch in enumerate(epochs)]
            panels.setdefault(_NAMES.get(title, title), {})[label or title] = (x, values)
    return panels


def _iterations(rows: Sequence[Iteration]) -> dict[str, charts.Series]:
    """Iterative pruning of single weights: how compressible what is left is, how much that is, and how accurate."""
    if not rows:
        return {}
    x = [row["iteration"] for row in rows]
    indices = {name: (x, [row["pq"][k] for row in rows]) for k, name in enumerate(PQ_PAIRS)}
    shares = {"validation": (x, [row["accuracy"] for row in rows]), "test": (x, [row["test"] for row in rows])}
    return {
        "PQ index": indices | {"Gini": (x, [row["gini"] for row in rows])},
        "weights left": {"weights left": (x, [row["remaining"] for row in rows])},
        "accuracy": {name: line for name, line in shares.items() if any(v is not None for v in line[1])},
    }
