"""The training loop: one function for dense training, regularised training and fine-tuning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet.common.errors import BadInput, TrainingFailed
from slimnet.common.files import essence
from slimnet.data.load import Data
from slimnet.methods.training import Masks, TrainingMethod
from slimnet.training import checkpoint
from slimnet.training.accelerator import own_randomness, seed
from slimnet.training.loader import batches
from slimnet.training.measure import accuracy, estimate_batch_norm
from slimnet.training.phase import Phase

if TYPE_CHECKING:
    from accelerate import Accelerator

#: Called with the fraction done and what a progress bar should show beside it.
Watch: TypeAlias = Callable[[float, str], None]
History: TypeAlias = list[dict[str, float]]


def unwatched(fraction: float, detail: str) -> None:
    """The watcher that shows nothing."""


@dataclass
class Run:
    """One phase of training as it goes on.

    Attributes:
        accelerator: The devices and processes to train on.
        module: The module that is trained in place, on the accelerator's device.
        data: The data to train with, which have a training split; accuracy is measured on the validation split.
        phase: The settings of the training.
        method: The training method that regularises the module, bound to its parameters; None trains without one.
        masks: The masks of the weights that stay zero, by the parameter's name; None masks nothing.
        teacher: The dense network to distil from, in eval mode; None does not distil.
        file: The checkpoint, written after every epoch; None writes none.
        settings: Further settings that must be equal for a checkpoint to be continued.
        watch: The function that is called with the progress.
    """

    accelerator: Accelerator
    module: nn.Module
    data: Data
    phase: Phase
    method: TrainingMethod | None = None
    masks: Masks | None = None
    teacher: nn.Module | None = None
    file: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    watch: Watch = unwatched

    def __post_init__(self) -> None:
        assert self.data.train is not None, "checked by whoever calls"
        phase, trained = self.phase, [p for p in self.module.parameters() if p.requires_grad]
        if phase.optimizer == "adam":
            optimizer: Any = torch.optim.Adam(trained, phase.lr, weight_decay=phase.weight_decay)
        else:
            nesterov = phase.nesterov and phase.momentum > 0
            optimizer = torch.optim.SGD(
                trained, phase.lr, phase.momentum, weight_decay=phase.weight_decay, nesterov=nesterov
            )
        loader = batches(self.data.train, phase, self.data.augment)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(self.module, optimizer, loader)
        self.history: History = []
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self._masked = _masked_parameters(self.module, self.masks or {})

    def fit(self, resume: bool = False) -> History:
        """Train, from the checkpoint on if asked to and there is one; random generators are left as they were.

        Returns:
            One record per epoch: epoch, loss, accuracy (of the validation split), lr, and the method's figures.

        Raises:
            TrainingFailed: the loss is not a number; the last checkpoint is kept.
            BadInput: the checkpoint was made with other settings.
        """
        if resume and self.file is not None and self.file.exists():
            self._restore(self.file)
        self._apply_masks()
        with own_randomness(self.accelerator.device):
            while len(self.history) < self.phase.epochs and not self._stops():
                epoch = len(self.history)
                seed(1_000_003 * self.phase.seed + epoch)
                loss = self._epoch(epoch)
                self._record(epoch, loss)
                self._save()
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # no casts in what is exported
            if self.phase.best and self.best is not None:
                self.module.load_state_dict(self.best[1])
            estimate_batch_norm(self.module, self.loader, self.phase.bn_batches)
        self.module.eval()
        return self.history

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole phase."""
        return self.phase.epochs * math.ceil(len(self.loader) / self.phase.accumulate)

    def _stops(self) -> bool:
        if self.method is not None and self.method.finished:
            return True
        if not self.phase.patience or not self.history or self.data.val is None:
            return False
        scores = [record["accuracy"] for record in self.history]
        return len(scores) - 1 - scores.index(max(scores)) >= self.phase.patience

    def _epoch(self, epoch: int) -> float:
        """Make one pass over the training split and return the mean loss."""
        self.model.train()
        total, fresh, count = 0.0, True, len(self.loader)
        for k, (x, y) in enumerate(self.loader):
            self._set_lr(epoch + k / count if self.phase.schedule == "cosine" else epoch)
            with self.accelerator.accumulate(self.model):
                if fresh and self.method is not None:
                    self.method.before_forward()
                loss = self._loss(x, y)
                if not torch.isfinite(loss):
                    raise TrainingFailed(self._not_finite(epoch, k))
                self.accelerator.backward(loss)
                fresh = self.accelerator.sync_gradients
                self._step(fresh)
            total += loss.item()
            self._tell(epoch, k, count, total / (k + 1))
            if self.method is not None and self.method.finished:
                break
        return total / (k + 1)

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        phase = self.phase
        with self.accelerator.autocast():
            output = self._output(x)
            loss = F.cross_entropy(output, y, label_smoothing=phase.smoothing)
            if self.teacher is not None and phase.distill:
                with torch.no_grad():
                    soft = F.log_softmax(self.teacher(x) / phase.temperature, 1)
                own = F.log_softmax(output / phase.temperature, 1)
                divergence = F.kl_div(own, soft, reduction="batchmean", log_target=True) * phase.temperature**2
                loss = (1 - phase.distill) * loss + phase.distill * divergence
        return loss

    def _output(self, x: Tensor) -> Tensor:
        try:
            return self.model(x)
        except RuntimeError as error:
            if not self.phase.channels_last or "view" not in str(error):
                raise
            raise BadInput(
                f"channels_last: the network does not run on images laid out so ({essence(error)}); leave it out"
            ) from error

    def _step(self, last: bool) -> None:
        """Take an optimizer step if these are the last gradients of it."""
        if last:
            self.accelerator.unscale_gradients(self.optimizer)
            if self.method is not None:
                self.method.after_backward()
            for p, mask in self._masked:
                if p.grad is not None:
                    p.grad.mul_(mask)
            if self.phase.clip:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.phase.clip)
        self.optimizer.step()
        if last:
            if self.method is not None:
                self.method.after_step()
            self._apply_masks()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def _apply_masks(self) -> None:
        for p, mask in self._masked:
            p.mul_(mask)

    def _set_lr(self, epoch: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.phase.lr * self.phase.factor(epoch)

    def _record(self, epoch: int, loss: float) -> None:
        value = accuracy(self.module, self.data.val) if self.data.val is not None else math.nan
        figures = self.method.record() if self.method is not None else {}
        self.history.append({"epoch": epoch, "loss": loss, "accuracy": value,
                             "lr": self.optimizer.param_groups[0]["lr"], **figures})  # fmt: skip
        if self.phase.best and self.data.val is not None and (self.best is None or value > self.best[0]):
            self.best = value, copy.deepcopy(self.module.state_dict())

    def _tell(self, epoch: int, batch: int, batches_: int, loss: float) -> None:
        fraction = (epoch + (batch + 1) / batches_) / self.phase.epochs
        if batch % 10 and batch + 1 < batches_:
            self.watch(fraction, "")
            return
        parts = [f"epoch {epoch + 1}/{self.phase.epochs}", f"loss {loss:.3f}"]
        if self.history and self.data.val is not None:
            parts.append(f"accuracy {self.history[-1]['accuracy']:.1%}")
        parts += [f"{name} {value:.3g}" for name, value in (self.method.status() if self.method else {}).items()]
        self.watch(fraction, ", ".join(parts))

    def _not_finite(self, epoch: int, batch: int) -> str:
        kept = f"; {self.file} holds the epoch before" if self.file is not None and self.history else ""
        return (
            f"the loss is not a finite number at step {batch + 1} of epoch {epoch + 1}: use a smaller learning rate "
            f"(it is {self.optimizer.param_groups[0]['lr']:g}) or a weaker regulariser{kept}"
        )

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        return {**self.phase.to_json(), **self.settings, "processes": self.accelerator.num_processes}

    def _save(self) -> None:
        if self.file is None or not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        content = {
            "settings": self._settings(),
            "epoch": len(self.history),
            "history": self.history,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "method": None if self.method is None else self.method.state_dict(),
            "best": None if self.best is None else list(self.best),
        }
        checkpoint.save(self.file, content)

    def _restore(self, file: Path) -> None:
        content = checkpoint.load(file)
        checkpoint.check_settings(file, content["settings"], self._settings())
        self.history = content["history"]
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        if content["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(content["scaler"])
        if self.method is not None:
            self.method.load_state_dict(content["method"])
        self.best = None if content["best"] is None else (content["best"][0], content["best"][1])


def _masked_parameters(module: nn.Module, masks: Masks) -> list[tuple[Tensor, Tensor]]:
    params = dict(module.named_parameters(remove_duplicate=False))
    return [(params[name], mask.to(params[name].device, params[name].dtype)) for name, mask in masks.items()
            if not mask.all()]  # fmt: skip
