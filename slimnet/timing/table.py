"""A benchmark as a table for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from slimnet.common.inputs import sizes
from slimnet.timing.result import AFTER, BEFORE, BenchResult, Layer

#: Below this, most of the multiply-accumulates that a layer saved brought no time.
_POOR = 0.5


def bench_table(result: BenchResult) -> Table:
    """The whole model, then each layer: speedup in MACs and in latency, and their quotient, the efficiency."""
    title, caption = "Dense against slim", _caption(result)
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    table.add_column("layer", overflow="fold")
    for heading in ("MMACs\ndense", "\nslim", "\nspeedup", "ms\ndense", "\nslim", "\nspeedup", "effi-\nciency"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row(*_row(result.model), style="bold", end_section=True)
    for layer in result.layers:
        table.add_row(*_row(layer))
    return table


def _row(layer: Layer) -> list[str | Text]:
    macs = [_number(count, 1e-6) for count in layer.macs]
    ms = [_number(time) for time in layer.ms]
    poor = layer.efficiency is not None and layer.efficiency < _POOR
    efficiency = Text(_number(layer.efficiency), style="red" if poor else "")
    return [Text(layer.name), *macs, _times(layer.flops), *ms, _times(layer.latency), efficiency]


def _caption(result: BenchResult) -> Text:
    conditions, latency = result.conditions, result.latency
    before, after = (result.comparison.timing(name) for name in (BEFORE, AFTER))
    inputs = ", ".join(f"{name}={sizes(shape)}" for name, shape in conditions.inputs.items())
    runtime = conditions.runtime
    threads = "all cores" if runtime.threads is None else f"{runtime.threads} threads"
    lines = [
        f"latency speedup {latency.value:.2f}, 95 % interval {latency.low:.2f} to {latency.high:.2f}; "
        f"p90 {before.p90:.4g} and {after.p90:.4g} ms; {before.runs} and {after.runs} runs",
        f"{inputs}; {threads}; {runtime}; {runtime.cpu}",
        *result.comparison.notes,
    ]
    return Text("\n".join(lines))


def _number(value: float | None, unit: float = 1.0) -> str:
    return "" if value is None else f"{value * unit:.3g}" if value * unit < 1000 else f"{value * unit:.0f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"
