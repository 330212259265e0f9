"""All that a run needs to train: the phases, as method and options set them, and the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slimnet.common.errors import BadInput
from slimnet.data.load import Data
from slimnet.methods import is_training
from slimnet.pipeline.config import EPOCHS, PruneConfig, RunConfig, TrainConfig
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.training.phase import Phase

#: Settings that ask for no training: they are given with every command.
_QUIET = ("epochs", "batch_size", "seed")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train before and after units are removed.

    Attributes:
        data: The data to train with, which have a training split.
        sparsify: The phase in which a training method acts.
        finetune: The phase after the removal; 0 epochs skip it.
        device: The device to train on: "auto" or "cpu".
        resume: Whether to continue from the checkpoints.
        checkpoints: The folder in which checkpoints are kept; None keeps none.
        backend: The backend that runs the graphs that a trained module is compared with.
    """

    data: Data
    sparsify: Phase
    finetune: Phase
    device: str = "auto"
    resume: bool = False
    checkpoints: Path | None = None
    backend: Backend = DEFAULT

    def file(self, name: str) -> Path | None:
        """The checkpoint of a phase, "sparsify" or "finetune"."""
        return None if self.checkpoints is None else self.checkpoints / f"{name}.pt"

    def forget(self) -> None:
        """Delete the checkpoints: what they were for is done."""
        from slimnet.training import checkpoint

        for file in (self.file("sparsify"), self.file("finetune")):
            if file is not None:
                checkpoint.forget(file)


def training_for(config: PruneConfig, run: RunConfig, train: TrainConfig) -> Training | None:
    """The training that the method needs or that was asked for; None where nothing is to be trained.

    Raises:
        BadInput: fine-tuning without data, or settings of a training that does not take place.
    """
    trains = is_training(config.method)
    sparsify, finetune = train.phases(EPOCHS if trains else 0)
    if run.dataset is not None and (finetune.epochs or trains):
        return Training(data=run.dataset, sparsify=sparsify, finetune=finetune, device=train.device,
                        resume=train.resume, checkpoints=train.checkpoints, backend=run.backend)  # fmt: skip
    if finetune.epochs and not trains:
        raise BadInput(f"`finetune.epochs={finetune.epochs}`: fine-tuning needs `data`")
    idle = next(_asked(train), None)
    if idle is not None and not trains:
        raise BadInput(f"`{idle}`: nothing is trained; give `data` and `epochs`")
    return None


def _asked(train: TrainConfig) -> Iterator[str]:
    """The settings of training that somebody has asked for, without saying for how long."""
    if isinstance(train.finetune, Mapping) and "epochs" in train.finetune:
        return
    for phase, given in (("finetune", train.finetune), ("sparsify", train.sparsify)):
        if isinstance(given, Mapping):
            yield from (f"{phase}.{name}={value}" for name, value in given.items() if name not in _QUIET)
