"""SPP: structured probabilistic pruning (Wang, Zhang, Wang, Hu 2018), with the rule that IncReg shares.

Every so many steps each group of weights moves towards being pruned, or away from it, by an amount that depends only
on the rank of its l1 norm within its layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Role
from slimnet.methods.base import Params
from slimnet.methods.parameter_groups import ParameterGroups
from slimnet.methods.training import Masks, TrainingMethod

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

UNITS = ("filter", "column")
RANK_MODES = ("instant", "running-mean", "norm")
#: A level this close to its limit has reached it: many small floats were added up.
_REACHED = 1 - 1e-9


def increments(ranks: Floats | npt.NDArray[np.int64], target: int, amplitude: float, flatness: float) -> Floats:
    """How far the groups of a layer move: Delta(r) of the paper's equation, zero at r = target.

    Args:
        ranks: The rank of every group; 0 is the smallest group.
        target: The number of groups that are to go; those of lower rank rise, the others fall.
        amplitude: A, the increment of the smallest group.
        flatness: The number u in (0, 1); the curve turns at the value u A.
    """
    alpha = (math.log(2) - math.log(flatness)) / target
    middle = -math.log(flatness) / alpha
    rising = amplitude * np.exp(-alpha * ranks)
    # Far beyond the target the exponential would overflow; whatever is there falls to zero at once.
    falling = 2 * flatness * amplitude - amplitude * np.exp(np.minimum(alpha * (ranks - 2 * middle), 50.0))
    return np.where(ranks <= middle, rising, falling)


def updates_needed(target: int, amplitude: float, flatness: float) -> int:
    """The number of updates until `target` groups have risen from 0 to 1, if their ranks never change."""
    level, updates = np.zeros(target), 0
    while len(level):
        # The smallest group is always first; nothing but sums happens until it arrives.
        wait = max(1, math.ceil((1 - level[0]) / amplitude - 1e-9))
        level = level + wait * increments(np.arange(len(level)), len(level), amplitude, flatness)
        level = level[level < _REACHED]
        updates += wait
    return updates


@dataclass
class RankedPruning(TrainingMethod):
    """Levels of groups rise and fall by rank; a group whose level reaches its limit is zero from then on.

    Attributes:
        unit: What a group is: "filter" stands for traced units, which can be removed; "column" for the im2col columns
            of every convolution whose filters are in a group, as in the paper: they are masked, each layer on its own.
        amplitude: A, how far the smallest group rises in one update.
        flatness: The number u in (0, 1), which says how flat the curve is where it turns.
        every: The number of steps between updates (t).
        rank_mode: What ranks are those of: the l1 norms now ("instant"), or the averages of all ranks so far
            ("running-mean"); or, to compare with, the norms themselves on the same scale ("norm").
        fixed: Whether pruned groups keep their ranks (as the paper may be read; it takes much longer), or those still
            there are ranked among themselves, as in the authors' program.
    """

    unit: str = "filter"
    amplitude: float = 0.05
    flatness: float = 0.25
    every: int = 180
    rank_mode: str = "instant"
    fixed: bool = False

    name: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check()
        filters = ParameterGroups.of_units(self.groups, self.params, Role.OUT)
        going = self.chosen(filters.mean_magnitudes())
        if self.unit == "filter":
            self._parameter_groups, targets = filters, [int(part.sum()) for part in going]
        else:
            self._parameter_groups = ParameterGroups.of_columns(self.groups, self.params)
            if not self._parameter_groups.count:
                raise BadInput(f"{self.name}: there is no convolution whose columns could go; use unit=filter")
            fractions = filters.fractions(np.concatenate([*going, np.zeros(0, bool)]))
            ratios = [fractions[name] for name in self._parameter_groups.tensors]
            targets = [
                min(math.ceil(r * n - 1e-9), n - 1) for r, n in zip(ratios, self._parameter_groups.sizes, strict=True)
            ]
        count = self._parameter_groups.count
        self._targets = np.array(targets, np.int64)
        self._level, self._mean_rank = np.zeros(count), np.zeros(count)
        self._pruned = np.zeros(count, bool)
        self._step = self._updates = 0
        self._every, self._amplitude = self._fitted()

    def _check(self) -> None:
        for option, known in (("unit", UNITS), ("rank_mode", RANK_MODES)):
            value = getattr(self, option)
            if value not in known:
                raise BadInput(f"{self.name}: {option} {value!r} is not known; choose one of: {', '.join(known)}")
        if not self.amplitude > 0:
            raise BadInput(f"{self.name}: option amplitude={self.amplitude:g} must be positive")
        if not 0 < self.flatness < 1:
            raise BadInput(f"{self.name}: option flatness={self.flatness:g} must lie between 0 and 1")
        if self.every < 1:
            raise BadInput(f"{self.name}: option every={self.every} must be at least 1")

    @property
    def _limit(self) -> float:
        """The level at which a group is pruned for good."""
        return 1.0

    def _fitted(self) -> tuple[int, float]:
        """Steps between updates and amplitude, such that 2/3 of the steps are enough if ranks do not change."""
        every, amplitude = self.every, self.amplitude
        needed = self._needed(amplitude)
        if self.steps is None or needed * every <= self.steps:
            return every, amplitude
        within = max(1, 2 * self.steps // 3)
        every = min(every, max(1, within // needed))
        while needed * every > within:
            amplitude *= max(1.05, needed * every / within)
            needed = self._needed(amplitude)
        return every, amplitude

    def _needed(self, amplitude: float) -> int:
        target = int(self._targets.max(initial=0))
        return updates_needed(target, amplitude / self._limit, self.flatness)

    # -- ranks and levels ----------------------------------------------------------------------------------------------

    def _update(self) -> None:
        norms = self._parameter_groups.magnitudes().cpu().numpy()
        before = self._pruned.sum()
        for members, target in zip(self._numbers(), self._targets, strict=True):
            if self._pruned[members].sum() < target:
                self._advance(members, int(target), norms)
        self._updates += 1
        if self._pruned.sum() > before:
            self._clear_pruned()

    def _advance(self, members: npt.NDArray[np.int64], target: int, norms: Floats) -> None:
        """One update of the parameter groups of one layer."""
        ranked = members if self.fixed else members[~self._pruned[members]]
        left = target - int(self._pruned[members].sum())
        going = target if self.fixed else left
        ranks = _ranks(norms[ranked])
        if self.rank_mode == "running-mean":
            self._mean_rank[ranked] = (self._updates * self._mean_rank[ranked] + ranks) / (self._updates + 1)
            ranks = _ranks(self._mean_rank[ranked])
        places = _places(norms[ranked], going) if self.rank_mode == "norm" else ranks
        moves = increments(places, going, self._amplitude, self.flatness)
        self._level[ranked] = np.clip(self._level[ranked] + moves, 0, self._limit)
        ready = ranked[np.argsort(ranks)]
        ready = ready[(self._level[ready] >= self._limit * _REACHED) & ~self._pruned[ready]]
        self._pruned[ready[:left]] = True
        if left <= len(ready):
            self._level[members] = np.where(self._pruned[members], self._limit, 0)

    def _clear_pruned(self) -> None:
        for name, mask in self._parameter_groups.masked(self._tensor(self._pruned)):
            self.params[name].masked_fill_(mask, 0)

    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._parameter_groups.part.device)

    # -- what comes of it ----------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return bool((self._pruned_by_part() >= self._targets).all())

    def _numbers(self) -> list[npt.NDArray[np.int64]]:
        """The numbers of the parameter groups of each partition."""
        return self._parameter_groups.split(np.arange(self._parameter_groups.count))

    def _pruned_by_part(self) -> npt.NDArray[np.int64]:
        return np.array([part.sum() for part in self._parameter_groups.split(self._pruned)], np.int64)

    def _outcome(self) -> Bools:
        """Which groups are pruned, bool [count]; where the target was not reached, those with the highest levels."""
        removed, norms = self._pruned.copy(), self._parameter_groups.magnitudes().cpu().numpy()
        for members, target in zip(self._numbers(), self._targets, strict=True):
            order = np.lexsort((norms[members], -self._level[members], ~removed[members]))
            removed[members[order[:target]]] = True
        return removed

    def removed(self, params: Params | None = None) -> list[Bools] | None:
        return self._parameter_groups.split(self._outcome()) if self.unit == "filter" else None

    def masks(self) -> Masks | None:
        if self.unit == "filter":
            return None
        found = self._parameter_groups.masked(self._tensor(self._outcome()))
        return {name: (~mask).expand(self.params[name].shape).clone() for name, mask in found}

    def status(self) -> dict[str, float]:
        return {"pruned": float(self._pruned.mean()) if len(self._pruned) else 0.0}

    def notes(self) -> list[str]:
        changes = {"every": (self._every, self.every), "amplitude": (self._amplitude, self.amplitude)}
        changed = ", ".join(f"{name} {a:.3g} instead of {b:g}" for name, (a, b) in changes.items() if a != b)
        if not changed:
            return []
        steps = self._needed(self.amplitude) * self.every
        return [f"{self.name}: the schedule takes about {steps:,} steps, not {self.steps:,}: {changed}"]

    @property
    def unfinished(self) -> str:
        """What to tell the user when training ended before all targets were reached."""
        done, every = int(self._pruned.sum()), int(self._targets.sum())
        return f"{self.name}: training ended with {done:,} of {every:,} {self.unit}s pruned; the rest goes by its level"

    def state_dict(self) -> dict[str, Any]:
        arrays = {"level": self._level, "mean_rank": self._mean_rank, "pruned": self._pruned, "targets": self._targets}
        numbers = {"step": self._step, "updates": self._updates, "every": self._every, "amplitude": self._amplitude}
        return numbers | {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._updates = state["step"], state["updates"]
        self._every, self._amplitude = state["every"], state["amplitude"]
        self._level, self._mean_rank = state["level"].numpy().copy(), state["mean_rank"].numpy().copy()
        self._pruned, self._targets = state["pruned"].numpy().copy(), state["targets"].numpy().copy()


def _ranks(values: Floats) -> npt.NDArray[np.int64]:
    """Rank of every value, 0 the smallest; equal ones in their order."""
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


@dataclass
class SPP(RankedPruning):
    """SPP: the level is the probability that a group is masked in a step; at 1 it is pruned for good.

    Masks are drawn anew in every step, and masked weights neither act nor move in it. Between steps the weights are
    all there, so an evaluation sees the network without masks.

    Attributes:
        seed: The seed of the masks; every process must have the same.
    """

    seed: int = 0

    name = "spp"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._generator = torch.Generator().manual_seed(self.seed)
        self._masked: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def before_forward(self) -> None:
        if self._step % self._every == 0 and not self.finished:
            self._update()
        chance = torch.rand(self._parameter_groups.count, generator=self._generator, dtype=torch.float64)
        drawn = chance.numpy() < self._level
        for name, mask in self._parameter_groups.masked(self._tensor(drawn | self._pruned)):
            w = self.params[name]
            self._masked[name] = mask, w.clone()
            w.masked_fill_(mask, 0)

    @torch.no_grad()
    def after_backward(self) -> None:
        for name, (mask, _) in self._masked.items():
            grad = self.params[name].grad
            if grad is not None:
                grad.masked_fill_(mask, 0)

    @torch.no_grad()
    def after_step(self) -> None:
        for name, (mask, before) in self._masked.items():
            w = self.params[name]
            w.copy_(torch.where(mask, before, w))
        self._masked.clear()
        self._step += 1

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._generator.set_state(state["generator"])


def _places(norms: Floats, going: int) -> Floats:
    """Where norms lie on the scale of ranks: 0 the smallest, `going` between those that are to go and the others."""
    ordered = np.sort(norms)
    border = ordered[going - 1 : going + 1].mean()
    return np.asarray(going * (norms - ordered[0]) / max(border - ordered[0], 1e-300))
