"""What was asked for, and how it was met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import schema
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Target(Section):
    """The target, what was tried to meet it, and what the plan means layer by layer."""

    template, anchor, link = "target.html.j2", "target", "Target"

    def collect(self, run: Run) -> Mapping[str, Any]:
        target = run.figures.target
        if target is None:
            return {"target": None}
        error, attempts = target["model_error"], target["tries"]
        nested = {
            "tries": [schema.Try(**attempt) for attempt in attempts],
            "model_error": None if error is None else schema.ModelError(**error),
            "layers": _layers(run, target["layers"]),
        }
        return {"target": schema.Target(**{**target, **nested})}

    def rows(self, report: Report) -> Iterator[Row]:
        target = report.target
        if target is not None and target.tries:
            unit = "x" if target.kind == "speedup" else " ms"
            planned = f"{target.measured:.3g}{unit} in {len(target.tries)} tries"
            yield Row(f"{target.kind} asked for", "", f"{target.asked:.3g}{unit}", planned)

    def show(self, report: Report) -> Mapping[str, Any] | None:
        if report.target is None:
            return None
        return {"unit": {"speedup": "x", "latency": " ms"}.get(report.target.kind, "")}


def _layers(run: Run, predicted: Mapping[str, float]) -> list[schema.TargetLayer]:
    """Per layer where the multiply-adds and the time went."""
    timed = {layer.name: layer for layer in run.figures.timed.layers} if run.figures.timed is not None else {}
    total = sum(layer.macs[0] or 0 for layer in timed.values()) or 1
    unknown = (None, None)
    found = []
    for name in dict.fromkeys([*timed, *predicted]):
        ms, macs = (timed[name].ms, timed[name].macs) if name in timed else (unknown, unknown)
        found.append(
            schema.TargetLayer(
                name=name,
                macs_share=None if macs[0] is None else macs[0] / total,
                macs=schema.Amounts(before=macs[0], after=macs[1]),
                predicted_ms=predicted.get(name),
                ms=schema.Amounts(before=ms[0], after=ms[1]),
            )
        )
    return found
