"""slimnet train"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimnet.cli import options as o


def train(
    arch: Annotated[
        str,
        typer.Option(help="Class to train: torchvision:NAME, timm:NAME, models:NAME, FILE.py:CALLABLE, ..."),
    ],
    data: Annotated[str, typer.Option(help="Data with a training split, as for prune.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write.")],
    weights: Annotated[Path | None, typer.Option(help="Checkpoint to start from; random weights if not given.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training split; 20 if not given.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at the start; 0.05 if not given.")] = None,
    batch_size: o.BatchSize = None,
    setting: o.Setting = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Train a network and write a checkpoint that every other verb reads.

    The weights are those of the best epoch on the validation split; the test split is looked at once, at the end.
    """
    from slimnet.common.files import check_writable

    check_writable(out.parent)
    with o.watched() as clock:
        from slimnet.data.load import load_data
        from slimnet.pipeline.train import DENSE, train_dense
        from slimnet.training.phase import phase

        chosen = phase(DENSE, epochs=epochs, lr=lr, batch_size=batch_size, seed=seed)
        chosen = phase(chosen, **o.settings(setting, ("train",))["train"])
        with clock("load"):
            split = load_data(data)
        result = train_dense(arch, weights, split, chosen, out, device, resume, clock)
    if not o.is_main_process():
        return
    if json:
        import json as encoder

        print(encoder.dumps(result, indent=2))
        return
    best = f"validation {result['val']:.2%}, " if result["val"] is not None else ""
    print(f"accuracy: {best}test {result['test']:.2%} after {len(result['epochs'])} epochs; written to {out}")
