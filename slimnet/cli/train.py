"""The verb `slimnet train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.processes import is_main_process
from slimnet.pipeline.config import DenseConfig


@o.configured
def train(
    arch: o.Arch,
    data: Annotated[str, typer.Option(help="Data with a training split, as for prune.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write.")],
    config: DenseConfig,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to start from; random weights if not given.")] = None,
    json: o.Json = False,
) -> None:
    """Train a network and write a checkpoint that every other verb reads.

    The weights are those of the best epoch on the validation split; the test split is looked at once, at the end.
    """
    with o.watched() as clock:
        from slimnet.pipeline.train import train_file

        result = train_file(arch, data, out, weights, config, clock)
    if not is_main_process():
        return
    if json:
        o.print_json(result)
        return
    best = f"validation {result['val']:.2%}, " if result["val"] is not None else ""
    print(f"accuracy: {best}test {result['test']:.2%} after {len(result['epochs'])} epochs; written to {out}")
