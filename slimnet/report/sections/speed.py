"""How much faster the network is, as a whole and layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slimnet.report import charts, schema
from slimnet.report.explain import timed_layers
from slimnet.report.reading import from_json, to_json
from slimnet.report.run import Run
from slimnet.report.schema import Report
from slimnet.report.section import Row, Section


class Speed(Section):
    """Latencies, and whether saved multiply-adds saved time."""

    template, anchor, link = "speed.html.j2", "speed", "Speed by layer"

    def collect(self, run: Run) -> Mapping[str, Any]:
        if run.figures.timed is not None:
            timed = to_json(run.figures.timed.to_json())
            kinds = {"speedup": schema.Speedup, "latency_ms": schema.Latencies, "bench": schema.Bench}
            return {key: from_json(kind, timed[key]) for key, kind in kinds.items()}
        before, after = run.figures.macs
        return {
            "speedup": schema.Speedup(flops=before / max(after, 1), latency=None, efficiency=None),
            "latency_ms": schema.Latencies(before=None, after=None),
            "bench": None,
        }

    def rows(self, report: Report) -> Iterator[Row]:
        before, after, speedup = report.latency_ms.before, report.latency_ms.after, report.speedup.latency
        if before is None or after is None or speedup is None or report.bench is None:
            return
        change = f"{speedup:.2f}x faster" if speedup >= 1 else f"{1 / speedup:.2f}x slower"
        yield Row("latency (median)", f"{before.median:.3g} ms", f"{after.median:.3g} ms", change)
        low, high = report.bench.latency_interval
        yield Row("  95 % interval", change=f"{low:.2f}x to {high:.2f}x")
        promised, efficiency = report.speedup.flops, report.speedup.efficiency
        known = promised is not None and efficiency is not None
        yield Row(
            "  of what MACs promise", change=f"{speedup:.2f} / {promised:.2f} = {efficiency:.2f}" if known else ""
        )

    def show(self, report: Report) -> Mapping[str, Any] | None:
        layers = timed_layers(report.content)
        return {"chart": charts.efficiency(layers)} if layers else None


def _efficiency(latency: float, speedup: schema.Speedup) -> str:
    promised, efficiency = speedup.flops, speedup.efficiency
    return "" if promised is None or efficiency is None else f"{latency:.2f} / {promised:.2f} = {efficiency:.2f}"
