"""slimnet trace"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimnet.cli import options as o

if TYPE_CHECKING:
    from rich.table import Table

    from slimnet.graph.units import Trace


def trace(
    model: o.Model,
    all_: Annotated[bool, typer.Option("--all", help="List every group and every pinned axis.")] = False,
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    allow_inexact: o.AllowInexact = False,
    heads: o.Heads = False,
    head_dims: o.HeadDims = False,
    json: o.Json = False,
) -> None:
    """Show which channels belong together, what is pinned, and why."""
    prefer = o.preference(heads, head_dims)
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock)
        from slimnet.graph.trace import trace as run

        with clock("trace"):
            traced = run(net, allow_inexact, prefer)
    if json:
        import json as encoder

        print(encoder.dumps(_content(traced, clock.seconds), indent=2))
        return
    from rich.console import Console

    console = Console()
    limit = None if all_ else 40
    console.print(_groups(traced, limit))
    console.print()
    console.print(_pins(traced, limit))
    console.print()
    console.print(
        f"{net.name}: {traced.n_units:,} removable units in {len(traced.groups)} groups; "
        f"{traced.parameters():,} parameters, {sum(traced.macs().values()):,} MACs",
        markup=False,
    )


def _content(traced: Trace, seconds: dict[str, float]) -> dict[str, Any]:
    from dataclasses import asdict

    groups = [
        {"name": g.name, "units": len(g), "kind": g.kind, "members": [
            {"tensor": m.tensor, "axis": m.axis, "role": _roles(m.role), "use": str(m.use),
             "per_unit": m.index.shape[1]}
            for m in g.members]}
        for g in traced.groups
    ]  # fmt: skip
    return {
        "model": traced.net.name,
        "model_hash": traced.model_hash,
        "params": traced.parameters(),
        "macs": sum(traced.macs().values()),
        "groups": groups,
        "pinned": [asdict(pin) for pin in traced.pins],
        "timing_s": {step: round(s, 4) for step, s in seconds.items()},
    }


def _roles(role: Any) -> str:
    names = {1: "out", 2: "in", 4: "along", 8: "untouched"}
    return "+".join(name for bit, name in names.items() if int(role) & bit)


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
