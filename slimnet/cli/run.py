"""slimnet run"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from slimnet.cli import options as o


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/deephoyer_lenet300.toml.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for networks and checkpoints.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="JSON file of results; results/NAME.json beside the recipe if not given.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Another place of the data than the recipe names.")] = None,
    device: o.Device = "auto",
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Run a recipe: train, prune and fine-tune, for every combination and seed it names.

    Results are written one by one; what has a result is not run again.
    """
    with o.watched() as clock:
        from slimnet.pipeline import recipe as cook

        target = results or recipe.parent / "results" / f"{recipe.stem}.json"
        rows = cook.run(recipe, out or Path(f"{recipe.stem}-out"), target, data, device, resume, clock,
                        lambda row: None if json else print(_line(row), flush=True))  # fmt: skip
    if json:
        import json as encoder

        print(encoder.dumps(rows, indent=2))
        return
    print(f"{len(rows)} results in {target}")


def _line(row: Mapping[str, Any]) -> str:
    accuracy, macs = row["accuracy"], row["macs"]
    tuned = "" if accuracy["pruned"] is None else f" -> {accuracy['pruned']:.2%}"
    return (
        f"{row['name']}: accuracy {accuracy['before']:.2%}{tuned} -> {accuracy['after']:.2%}, "
        f"MACs {macs['before']:,} -> {macs['after']:,} ({row['speedup']['flops']:.2f}x), {row['seconds']} s"
    )
