"""The settings of one phase of training: plain values, compared when a run is resumed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from slimnet.common.errors import BadInput
from slimnet.common.settings import LARGEST_COUNT, LARGEST_SEED

OPTIMIZERS = ("sgd", "adam")
PRECISIONS = ("no", "fp16", "bf16")

_AT_LEAST = {0: ("epochs", "lr", "weight_decay", "clip", "patience", "bn_batches"), 1: ("batch_size", "accumulate")}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """How the network is trained in one phase.

    Attributes:
        epochs: The number of passes over the training split; a pruning method with a schedule of its own may end
            earlier.
        lr: The learning rate at the start.
        optimizer: The name of the optimizer: "sgd" (with momentum) or "adam".
        momentum: The momentum of SGD, in [0, 1); Adam ignores it.
        nesterov: Whether SGD uses Nesterov momentum.
        weight_decay: The factor of the coupled L2 penalty on all parameters.
        batch_size: The number of samples per batch, in each process.
        schedule: The course of the learning rate: "constant", "cosine" (down to 0), or "step:60,90" (times 0.1 at
            those epochs).
        smoothing: The label smoothing, in [0, 1).
        clip: The largest norm of the gradient; 0 does not clip.
        distill: The weight in [0, 1] of the dense network's soft outputs (Hinton et al. 2015) in the loss.
        temperature: The temperature of the soft outputs, above 0.
        patience: The number of epochs without a better validation accuracy after which training stops; 0 never stops
            early.
        best: Whether training ends with the weights of the best epoch on the validation split, not of the last.
        bn_batches: The number of batches on which batch-norm statistics are estimated anew at the end; 0 does not.
        accumulate: The number of batches per optimizer step.
        precision: The arithmetic of mixed precision: "no", "fp16" or "bf16".
        channels_last: Whether images are laid out with their channels last, which is faster on CPUs, above all with
            "bf16"; networks that use `Tensor.view` on feature maps refuse it.
        seed: The seed of order, augmentation and dropout.
    """

    epochs: int = 10
    lr: float = 0.01
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    batch_size: int = 64
    schedule: str = "cosine"
    smoothing: float = 0.0
    clip: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    patience: int = 0
    best: bool = False
    bn_batches: int = 0
    accumulate: int = 1
    precision: str = "no"
    channels_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise BadInput(f"optimizer {self.optimizer!r} is not known; choose one of: {', '.join(OPTIMIZERS)}")
        if self.precision not in PRECISIONS:
            raise BadInput(f"precision {self.precision!r} is not known; choose one of: {', '.join(PRECISIONS)}")
        for low, names in _AT_LEAST.items():
            for name in names:
                if not getattr(self, name) >= low:
                    raise BadInput(f"{name} {getattr(self, name):g}: must be at least {low}")
        for name in ("epochs", "patience", "bn_batches", "batch_size", "accumulate"):
            if getattr(self, name) > LARGEST_COUNT:
                raise BadInput(f"{name} {getattr(self, name)}: must be at most {LARGEST_COUNT}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise BadInput(f"seed {self.seed}: must be from 0 to {LARGEST_SEED}")
        for name in ("momentum", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"{name} {getattr(self, name):g}: must be at least 0 and below 1")
        if not 0 <= self.distill <= 1:
            raise BadInput(f"distill {self.distill:g}: is a weight between 0 and 1")
        if not self.temperature > 0:
            raise BadInput(f"temperature {self.temperature:g}: must be above 0")
        self.milestones()

    def milestones(self) -> tuple[int, ...]:
        """The epochs of a step schedule; none for the others.

        Raises:
            BadInput: the schedule cannot be understood.
        """
        kind, _, epochs = self.schedule.partition(":")
        if self.schedule in ("constant", "cosine"):
            return ()
        if kind != "step" or not all(part.strip().isdecimal() for part in epochs.split(",")):
            raise BadInput(f"schedule {self.schedule!r} is not understood; use constant, cosine or step:60,90")
        return tuple(int(part) for part in epochs.split(","))

    def factor(self, epoch: float) -> float:
        """The factor that the learning rate is multiplied by in an epoch."""
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * epoch / max(self.epochs, 1)))
        return float(0.1 ** sum(epoch >= m for m in self.milestones()))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def phase(base: Phase, **settings: Any) -> Phase:
    """A phase with some settings changed; those that are None stay.

    Raises:
        BadInput: there is no such setting, or its value is of the wrong type.
    """
    known = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            raise BadInput(f"training has no setting {name!r}; it has: {', '.join(known)}")
        kinds = (int, float) if isinstance(known[name], float) else (type(known[name]),)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadInput(f"training setting {name}={value} is not of type {type(known[name]).__name__}")
    return dataclasses.replace(base, **given)
