"""The verb `slimnet run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from slimnet.cli import options as o
from slimnet.pipeline.config import DeviceConfig, RunConfig


@o.configured
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/deephoyer_lenet300.toml.")],
    config: Annotated[RunConfig, o.only("threads", "provider")],
    device: DeviceConfig,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for networks and checkpoints.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="JSON file of results; results/NAME.json beside the recipe if not given.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Another place of the data than the recipe names.")] = None,
    json: o.Json = False,
) -> None:
    """Run a recipe: train, prune and fine-tune, for every combination and seed it names.

    Results are written one by one; what has a result is not run again.
    """
    with o.watched() as clock:
        from slimnet.pipeline.recipe import run_recipe

        file, rows = run_recipe(recipe, out, results, replace(config, data=data), device, clock,
                                lambda row: None if json else print(_line(row), flush=True))  # fmt: skip
    if json:
        o.print_json(rows)
        return
    print(f"{len(rows)} results in {file}")


def _line(row: Mapping[str, Any]) -> str:
    accuracy, macs = row["accuracy"], row["macs"]
    finetuned = "" if accuracy["pruned"] is None else f" -> {accuracy['pruned']:.2%}"
    return (
        f"{row['name']}: accuracy {accuracy['before']:.2%}{finetuned} -> {accuracy['after']:.2%}, "
        f"MACs {macs['before']:,} -> {macs['after']:,} ({row['speedup']['flops']:.2f}x), {row['seconds']} s"
    )
