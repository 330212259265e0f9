"""IncReg: incremental regularisation (Wang, Zhang, Wang, Yu, Hu 2018), details as in the authors' program."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slimnet.common.errors import BadInput
from slimnet.methods.spp import RankedPruning


@dataclass
class IncReg(RankedPruning):
    """IncReg: the level of a group is its own L2 penalty, grad += lambda_g w; a group that reaches `target` goes.

    Once a layer has its number of pruned groups, nothing more is added to the others. The authors advise a twentieth
    of the learning rate the network was trained with, and half of its weight decay.

    Attributes:
        amplitude: How far the penalty of the smallest group rises in one update; the authors take the weight decay.
        target: The penalty at which a group is pruned; about 10 000 times the amplitude.
    """

    unit: str = "column"
    amplitude: float = 2.5e-4
    every: int = 1
    rank_mode: str = "running-mean"
    target: float = 2.5

    name = "increg"

    def _check(self) -> None:
        super()._check()
        if not self.target > 0:
            raise BadInput(f"increg: option target={self.target:g} must be positive")

    @property
    def _limit(self) -> float:
        return self.target

    @torch.no_grad()
    def after_backward(self) -> None:
        if self._step % self._every == 0 and not self.finished:
            self._update()
        self._parameter_groups.add_to_gradients(self._tensor(self._level).float())
        for name, mask in self._parameter_groups.masked(self._tensor(self._pruned)):
            grad = self.params[name].grad
            if grad is not None:
                grad.masked_fill_(mask, 0)

    @torch.no_grad()
    def after_step(self) -> None:
        self._clear_pruned()
        self._step += 1

    def status(self) -> dict[str, float]:
        return super().status() | {"lambda": float(self._level[~self._pruned].max(initial=0))}
