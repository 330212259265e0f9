"""Train a dense network from an architecture and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slimnet.calibration.classifier import check_classes
from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.common.files import check_writable, replacing
from slimnet.data.load import Data, load_data
from slimnet.io.torch_module import load_torch
from slimnet.pipeline.config import DenseConfig
from slimnet.training.accelerator import accelerator_for
from slimnet.training.loop import Run
from slimnet.training.measure import accuracy
from slimnet.training.phase import Phase


def train_file(
    arch: str, data: str, out: Path, weights: Path | None, config: DenseConfig, clock: Clock
) -> dict[str, Any]:
    """Train a network on data by their names: see `train_dense`."""
    check_writable(out.parent)
    phase = config.phase
    with clock("load"):
        loaded = load_data(data)
    return train_dense(arch, weights, loaded, phase, out, config.device, config.resume, clock)


def train_dense(
    arch: str, weights: Path | None, data: Data, phase: Phase, out: Path, device: str, resume: bool, clock: Clock
) -> dict[str, Any]:
    """Train and write a checkpoint {arch, input, data, accuracy, state_dict}, readable without code.

    Returns:
        {"epochs": records, "val", "test": accuracies}; "val" is None where the data has no validation split.

    Raises:
        BadInput: no such architecture, or one that does not fit the data.
        TrainingFailed: the loss is no longer a number.
    """
    if data.train is None:
        raise BadInput(f"`data` {data.name}: has no training split")
    source = load_torch(weights, arch, (1, *data.train.shape))
    module = source.module
    check_classes(module, data.train, data.name)
    file = out.with_name(f"{out.name}.checkpoint")
    accelerator = accelerator_for(phase, device)
    module.to(accelerator.device)
    with clock("train") as progress:
        run = Run(
            accelerator, module, data, phase, file=file, settings={"arch": arch, "data": data.name}, watch=progress
        )
        history = run.fit(resume)
    val = accuracy(module, data.val) if data.val is not None else None
    test = accuracy(module, data.test)
    if accelerator.is_main_process:
        state = {name: tensor.cpu() for name, tensor in module.state_dict().items()}
        content = {"arch": arch, "input": list(source.inputs), "data": data.name, "accuracy": test, "state_dict": state}
        with replacing(out) as temporary:
            torch.save(content, temporary)
        file.unlink(missing_ok=True)
    return {"epochs": history, "val": val, "test": test}
