"""GReg-1 and GReg-2: an L2 penalty that grows (Wang, Qin, Zhang, Fu 2021, "Neural Pruning via Growing Regularization").

Where the paper and the authors' program differ, the stored choice is removed, not a new sort, and groups of which
nothing goes are never penalised: both as in the program.
"""

from __future__ import annotations

import math
from abc import abstractmethod
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

GRANULARITIES = ("filter", "channel", "weight")
#: With fewer bumps than this the penalty would jump instead of grow.
_FEWEST = 100


@dataclass(frozen=True)
class Schedule:
    """How the penalty's strength lambda grows: `picks` times by `pick_delta`, then `grows` times by `delta`.

    Bumps are counted, not added up: 10 000 times 1e-4 is 1, which adding up floats misses.

    Attributes:
        every: The number of optimizer steps between two bumps.
        picks: The number of bumps until it is chosen what goes; 0 where that is known from the start.
        pick_delta: What lambda rises by at each of those.
        grows: The number of bumps after that.
        delta: What lambda rises by at each of these.
        stabilise: The number of steps after the last bump, with lambda as it is.
    """

    every: int
    picks: int
    pick_delta: float
    grows: int
    delta: float
    stabilise: int

    @property
    def growing(self) -> int:
        """Steps until the last bump, its own among them."""
        return (self.picks + self.grows - 1) * self.every + 1

    def strength(self, bumps: npt.NDArray[np.int64]) -> Floats:
        """Lambda after so many bumps."""
        return np.minimum(bumps, self.picks) * self.pick_delta + np.maximum(bumps - self.picks, 0) * self.delta

    def fitted(self, steps: int, tau: float, tau_pick: float) -> Schedule:
        """This schedule if it fits into so many steps; else one that grows in 2/3 of them and then stabilises."""
        if self.growing + self.stabilise <= steps:
            return self
        growing = max(1, 2 * steps // 3)
        every, picks, grows, pick_delta, delta = self.every, self.picks, self.grows, self.pick_delta, self.delta
        if self.growing > growing:
            every = min(every, max(1, growing // _FEWEST))
            bumps, published = (growing - 1) // every + 1, picks + grows
            if bumps < published:
                picks = min(picks, max(1, bumps * picks // published))
                grows = max(1, bumps - picks)
                pick_delta = tau_pick / picks if picks else 0.0
                # One bump less reaches tau, so that the last one exceeds it.
                delta = (tau - picks * pick_delta) / max(grows - 1, 0.5)
        stabilise = max(0, steps - (picks + grows - 1) * every - 1)
        return Schedule(every, picks, pick_delta, grows, delta, stabilise)


@dataclass
class GReg(TrainingMethod):
    """What both have in common: grad += lambda w for what is to go, and a lambda that grows until it exceeds tau.

    Attributes:
        granularity: What is penalised and ranked: "filter" or "channel" takes units by what computes or what reads
            them; "weight" takes single weights, as many of each tensor as the budget would take of its filters.
        delta: What lambda grows by.
        every: The number of steps between two such bumps (K_u).
        tau: The value that lambda grows beyond.
        stabilise: The number of steps after that, with lambda frozen (K_s).
        ratio_stop: Growing also stops when the mean magnitude of what is kept is this many times that of what goes, in
            a running average; 0 does not stop (the paper), 1000 is the authors' program. It is not for single weights.
    """

    granularity: str = "filter"
    delta: float = 1e-4
    every: int = 10
    tau: float = 1.0
    stabilise: int = 5000
    ratio_stop: float = 0.0

    name: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check()
        self._schedule = published = self._published()
        if self.steps is not None:
            self._schedule = published.fitted(self.steps, self.tau, self._tau_pick)
        self._stretched = self._schedule != published
        self._parameter_groups = ParameterGroups.of_units(
            self.groups, self.params, Role.IN if self.granularity == "channel" else Role.OUT
        )
        groups = len(self.groups)
        self._step, self._end = 0, -1
        self._bumps, self._stopped = np.zeros(groups, np.int64), np.zeros(groups, bool)
        self._ratio = np.full(groups, np.nan)
        #: What goes: of the first bump until the picking is done, then for good.
        self._going: list[npt.NDArray[np.bool_]] = []
        self._weights: Masks = {}

    def _check(self) -> None:
        if self.granularity not in GRANULARITIES:
            known = ", ".join(GRANULARITIES)
            raise BadInput(f"{self.name}: granularity {self.granularity!r} is not known; choose one of: {known}")
        for option, least in (("every", 1), ("stabilise", 0), ("ratio_stop", 0)):
            if getattr(self, option) < least:
                raise BadInput(f"{self.name}: option {option}={getattr(self, option):g} must be at least {least}")
        for option in ("delta", "tau"):
            if not getattr(self, option) > 0:
                raise BadInput(f"{self.name}: option {option}={getattr(self, option):g} must be positive")

    @abstractmethod
    def _published(self) -> Schedule:
        """The schedule as the hyper-parameters say."""

    @property
    def _tau_pick(self) -> float:
        return 0.0

    @property
    def _kept_strength(self) -> float:
        """Lambda of what is kept in a group of which something goes."""
        return 0.0

    # -- the state machine ---------------------------------------------------------------------------------------------

    @property
    def _picking(self) -> bool:
        return int(self._bumps.max(initial=0)) < self._schedule.picks

    def _done(self) -> npt.NDArray[np.bool_]:
        """Per group, whether its lambda has stopped growing."""
        idle = np.array([not going.any() for going in self._going], bool)
        return idle | self._stopped | (self._bumps >= self._schedule.picks + self._schedule.grows)

    def _bump(self) -> None:
        if not self._going:
            self._pick()
        if self.ratio_stop and self.granularity != "weight":
            self._watch_ratio()
        self._bumps[~self._done()] += 1
        if self._schedule.picks and self._bumps.max(initial=0) == self._schedule.picks:
            self._pick()
            # All groups of which something goes have grown alike so far, also those that the first choice spared.
            self._bumps[:] = self._schedule.picks
        if self._done().all():
            self._end = self._step

    def _pick(self) -> None:
        self._going = self.chosen(self._parameter_groups.mean_magnitudes())
        if self.granularity == "weight":
            self._weights = self._smallest_weights(self._going)

    def _smallest_weights(self, going: list[npt.NDArray[np.bool_]]) -> Masks:
        fractions = self._parameter_groups.fractions(np.concatenate([*going, np.zeros(0, bool)]))
        return {name: _smallest(self.params[name], r) for name, r in fractions.items() if r}

    def _watch_ratio(self) -> None:
        scores = self._parameter_groups.mean_magnitudes()
        for g, going in enumerate(self._going):
            if going.any():
                removed = scores[g][going].mean()
                ratio = scores[g][~going].mean() / removed if removed > 0 else np.inf
                self._ratio[g] = ratio if np.isnan(self._ratio[g]) else 0.9 * self._ratio[g] + 0.1 * ratio
        if not self._picking:
            self._stopped |= self._stops(self._ratio >= self.ratio_stop)

    def _stops(self, above: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which groups stop, when these are above the ratio."""
        return above

    # -- the three calls -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def after_backward(self) -> None:
        if self._end < 0 and self._step % self._schedule.every == 0:
            self._bump()
        if self.granularity == "weight":
            self._penalise_weights()
        else:
            self._parameter_groups.add_to_gradients(self._strengths())

    def after_step(self) -> None:
        self._step += 1

    @property
    def finished(self) -> bool:
        return 0 <= self._end <= self._step - 1 - self._schedule.stabilise

    def _strengths(self) -> Tensor:
        """Lambda of every parameter group: float32 [count]."""
        strength = self._schedule.strength(self._bumps)
        parts = [
            np.where(going | self._picking, lam, self._kept_strength) if going.any() else np.zeros(len(going))
            for going, lam in zip(self._going, strength, strict=True)
        ]
        values = np.concatenate([*parts, np.zeros(0)]).astype(np.float32)
        return torch.from_numpy(values).to(self._parameter_groups.part.device)

    def _penalise_weights(self) -> None:
        strength = float(self._schedule.strength(self._bumps).max(initial=0))
        kept_strength = strength if self._picking else self._kept_strength
        for name, kept in self._weights.items():
            w = self.params[name]
            if w.grad is not None:
                w.grad.addcmul_(w, torch.where(kept, kept_strength, strength).to(w.dtype))

    # -- what comes of it ----------------------------------------------------------------------------------------------

    def removed(self, params: Params | None = None) -> list[npt.NDArray[np.bool_]] | None:
        if self.granularity == "weight":
            return None
        if self._picking or not self._going:
            return self.chosen(self._parameter_groups.mean_magnitudes())
        return self._going

    def masks(self) -> Masks | None:
        if self.granularity != "weight":
            return None
        if self._picking or not self._going:
            return self._smallest_weights(self.chosen(self._parameter_groups.mean_magnitudes()))
        return dict(self._weights)

    def status(self) -> dict[str, float]:
        return {"lambda": float(self._schedule.strength(self._bumps).max(initial=0))}

    def record(self) -> dict[str, float]:
        """Lambda, and how far the mean magnitudes of what is kept and of what goes have come apart (Fig. 1)."""
        if self.granularity == "weight" or not self._going:
            return self.status()
        scores, going = np.concatenate(self._parameter_groups.mean_magnitudes()), np.concatenate(self._going)
        means = {"norm kept": scores[~going], "norm removed": scores[going]}
        return self.status() | {name: float(values.mean()) for name, values in means.items() if len(values)}

    def notes(self) -> list[str]:
        if not self._stretched:
            return []
        now, full = self._schedule, self._published()
        changes = {"delta": (now.delta, full.delta), "pick_delta": (now.pick_delta, full.pick_delta),
                   "every": (now.every, full.every), "stabilise": (now.stabilise, full.stabilise)}  # fmt: skip
        changed = ", ".join(f"{name} {a:.5g} instead of {b:g}" for name, (a, b) in changes.items() if a != b)
        steps = full.growing + full.stabilise
        return [f"{self.name}: the schedule takes {steps:,} steps, not {self.steps:,}: {changed}"]

    @property
    def unfinished(self) -> str:
        """What to tell the user when training ended before the schedule."""
        now = self.status()["lambda"]
        return f"{self.name}: training ended before the schedule did, with lambda at {now:.3g} of {self.tau:g}"

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "end": self._end,
            "bumps": torch.from_numpy(self._bumps.copy()),
            "stopped": torch.from_numpy(self._stopped.copy()),
            "ratio": torch.from_numpy(self._ratio.copy()),
            "going": [torch.from_numpy(going.copy()) for going in self._going],
            "weights": {name: kept.clone() for name, kept in self._weights.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._end = state["step"], state["end"]
        self._bumps, self._stopped, self._ratio = (state[key].numpy().copy() for key in ("bumps", "stopped", "ratio"))
        self._going = [going.numpy().copy() for going in state["going"]]
        self._weights = {name: kept.to(self.params[name].device) for name, kept in state["weights"].items()}


def _smallest(w: Tensor, fraction: float) -> Tensor:
    """Which weights are kept, bool: all but the ceil(fraction * n) smallest, and at least one."""
    flat = w.detach().abs().flatten()
    count = min(math.ceil(fraction * flat.numel() - 1e-9), flat.numel() - 1)
    kept = torch.ones_like(flat, dtype=torch.bool)
    kept[flat.argsort(stable=True)[:count]] = False
    return kept.view(w.shape)


@dataclass
class GReg1(GReg):
    """GReg-1 (section 3.2): what goes is chosen at the start, by mean magnitude, and its penalty grows."""

    name = "greg-1"

    def _published(self) -> Schedule:
        return Schedule(self.every, 0, 0.0, _bumps_beyond(self.tau, self.delta), self.delta, self.stabilise)

    def _stops(self, above: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """All groups or none."""
        idle = np.array([not going.any() for going in self._going], bool)
        return np.full(len(above), bool((above | idle).all()))


@dataclass
class GReg2(GReg):
    """GReg-2 (section 3.3): the penalty of all units grows a little, which tells them apart; then as in GReg-1.

    Attributes:
        pick_delta: What lambda of all units grows by at first.
        tau_pick: The value that it then reaches; at that point what goes is chosen by mean magnitude.
        recover: Lambda of what is kept from then on. The authors' program has -1e-4; the paper says minus the weight
            decay of the optimizer, so that the two cancel.
    """

    pick_delta: float = 1e-5
    tau_pick: float = 0.01
    recover: float = -1e-4

    name = "greg-2"

    def _check(self) -> None:
        super()._check()
        if not self.pick_delta > 0:
            raise BadInput(f"greg-2: option pick_delta={self.pick_delta:g} must be positive")
        if not 0 < self.tau_pick < self.tau:
            raise BadInput(f"greg-2: option tau_pick={self.tau_pick:g} must lie between 0 and tau={self.tau:g}")

    def _published(self) -> Schedule:
        picks = math.ceil(self.tau_pick / self.pick_delta - 1e-9)
        grows = _bumps_beyond(self.tau - picks * self.pick_delta, self.delta)
        return Schedule(self.every, picks, self.pick_delta, grows, self.delta, self.stabilise)

    @property
    def _tau_pick(self) -> float:
        return self.tau_pick

    @property
    def _kept_strength(self) -> float:
        return self.recover


def _bumps_beyond(tau: float, delta: float) -> int:
    """The least number of bumps by delta that exceed tau."""
    return max(1, math.floor(tau / delta + 1e-9) + 1)
