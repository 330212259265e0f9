"""The verb `slimnet profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, RunConfig, TraceConfig

if TYPE_CHECKING:
    from rich.table import Table

#: How many widths of a group a line of the table has room for.
_FEW = 5


@o.configured
def profile(
    model: ModelConfig,
    cut: TraceConfig,
    run: Annotated[RunConfig, o.only("threads", "provider")],
    all_: Annotated[bool, typer.Option("--all", help="List every layer, every group and every width.")] = False,
    json: o.Json = False,
) -> None:
    """Show where the time goes, layer by layer, and what the widths of each group would cost.

    Times come from onnxruntime's profiler, after its fusions; widths from a model fitted to slimmer variants.
    """
    with o.watched() as clock:
        from slimnet.pipeline.profile import profile_file

        found = profile_file(model, cut, run, clock)
    if json:
        o.print_json(found)
        return
    from rich.console import Console

    console = Console()
    limit = None if all_ else 40
    console.print(_layers(found, limit))
    console.print(_groups(found, limit))
    for note in found["notes"]:
        console.print(o.translated(note), markup=False)
    error = found["model_error"]
    console.print(
        f"{found['model']}: {found['ms']:.3g} ms in nodes; on widths it had not seen, the model was off by "
        f"{error['total']:.0%} in total and {error['layers']:.0%} per layer",
        markup=False,
    )


def _layers(found: dict[str, Any], limit: int | None) -> Table:
    table = _table("Where the time goes", "layer", "ms", "share", "MMACs", "widths")
    for layer in found["layers"][:limit]:
        macs = "" if layer["macs"] is None else f"{layer['macs'] / 1e6:.3g}"
        widths = "x".join(map(str, layer["widths"]))
        table.add_row(_text(layer["name"]), f"{layer['ms']:.3g}", f"{layer['share']:.1%}", macs, widths)
    _more(table, len(found["layers"]), limit)
    return table


def _groups(found: dict[str, Any], limit: int | None) -> Table:
    table = _table("What the widths of a group would save, the others as they are", "group", "units", "units: ms saved")
    for group in found["groups"][:limit]:
        steps = group["widths"][:-1]
        dense = group["widths"][-1]["ms"]
        few = steps if limit is None or len(steps) <= _FEW else steps[:: -(-len(steps) // _FEW)]
        saved = ", ".join(f"{step['units']}: {dense - step['ms']:.2g}" for step in reversed(few))
        table.add_row(_text(group["name"]), str(group["units"]), saved)
    _more(table, len(found["groups"]), limit)
    return table


def _table(title: str, first: str, *headings: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _text(name: str) -> Any:
    from rich.text import Text

    return Text(name)


def _more(table: Table, count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        table.add_row(f"and {count - limit} more, see --all", style="dim")
