"""The verb `slimnet trace`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import ModelConfig, TraceConfig

if TYPE_CHECKING:
    from rich.table import Table

    from slimnet.graph.units import Trace


@o.configured
def trace(
    model: Annotated[ModelConfig, o.without("batch")],
    cut: TraceConfig,
    all_: Annotated[bool, typer.Option("--all", help="List every group and every pinned axis.")] = False,
    json: o.Json = False,
) -> None:
    """Show which channels belong together, what is pinned, and why."""
    with o.watched() as clock:
        from slimnet.pipeline.trace import trace_file, traced_json

        traced = trace_file(model, cut, clock)
    if json:
        o.print_json(traced_json(traced, clock))
        return
    from rich.console import Console

    console = Console()
    limit = None if all_ else 40
    console.print(_groups(traced, limit))
    console.print()
    console.print(_pins(traced, limit))
    console.print()
    console.print(
        f"{traced.net.name}: {traced.n_units:,} removable units in {len(traced.groups)} groups; "
        f"{traced.parameters():,} parameters, {sum(traced.macs().values()):,} MACs",
        markup=False,
    )
    for note in traced.net.notes:
        console.print(o.translated(note), markup=False)


def _groups(traced: Trace, limit: int | None) -> Table:
    from rich.text import Text

    table = _listing("What can be removed", "units", "weights that write them\n-> weights that read them")
    for group in traced.groups[:limit]:
        names: dict[int, list[str]] = {1: [], 2: [], 4: []}
        for member in group.members:
            for bit, found in names.items():
                if int(member.role) & bit and member.tensor not in (group.name, *found):
                    found.append(member.tensor)
        writers, readers, along = names.values()
        text = Text.assemble((group.name, "bold"), *(f", {name}" for name in _some(writers, limit)))
        if readers:
            text.append(f"\n-> {', '.join(_some(readers, limit))}")
        if along and limit is None:
            text.append(f"\nand {', '.join(along)}", "dim")
        table.add_row(str(len(group)), text)
    _more(table, len(traced.groups), limit)
    return table


def _pins(traced: Trace, limit: int | None) -> Table:
    from rich.text import Text

    table = _listing("What is pinned, and why", "indices", "of")
    for pin in traced.pins[:limit]:
        node = f"{pin.op} {pin.node}".strip()
        where = Text.assemble((pin.tensor, "bold"), f", axis {pin.axis}: {pin.why}", f" ({node})" if node else "")
        table.add_row(str(pin.units), where)
    _more(table, len(traced.pins), limit)
    return table


def _listing(title: str, *headings: str) -> Table:
    """Two columns, so that names of any length stay whole."""
    from rich.table import Table

    table = Table(*headings, box=None, title=title, title_justify="left", padding=(0, 1, 0, 0))
    table.columns[0].justify, table.columns[0].no_wrap = "right", True
    table.columns[1].overflow = "fold"
    return table


def _more(table: Table, count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        table.add_row("...", f"and {count - limit} more, see --all", style="dim")


def _some(names: Sequence[str], limit: int | None) -> list[str]:
    """All names, or the first few where there is a limit."""
    few = 4
    return [*names] if limit is None or len(names) <= few else [*names[:few], f"{len(names) - few} more"]
