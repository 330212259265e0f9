"""The target of a latency search, and the loop that meets it: plan, measure, correct."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.planning.solve import MACS_WEIGHT
from slimnet.planning.widths import Counts

#: Kinds of target: the first two are measured, the others counted.
KINDS = ("speedup", "latency", "params", "macs")
MEASURED = KINDS[:2]
#: A plan meets the target when its measured speedup is this close to what was asked; and how often that is tried.
TOLERANCE = 0.03
TRIES = 6
#: One that is a little too slow is still better than one that is much too fast.
_NEAR = 0.05
#: How far the goal moves when planning for it gives widths that were measured already, and how often.
_NUDGE = 0.01
_NUDGES = 10

_SECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Target:
    """What a search is to reach.

    Attributes:
        kind: The quantity: "speedup" or "latency", which are measured, "params" or "macs" (multiply-adds), which are
            counted.
        asked: The value asked for: a factor for a speedup, milliseconds for a latency; for counts, a fraction that is
            kept if below 1, else a number.
        best: Whether to take the smallest network where the target cannot be reached.
        macs_weight: The weight of keeping multiply-adds against keeping importance, see `planning.solve.Choices`.
    """

    kind: str
    asked: float
    best: bool = False
    macs_weight: float = MACS_WEIGHT

    @property
    def option(self) -> str:
        """The target as the user typed it, more or less."""
        unit = "ms" if self.kind == "latency" else ""
        return f"--{self.kind} {self.asked:g}{unit}"

    @property
    def argument(self) -> str:
        """The target as an error names it."""
        return f"`{self.kind}`{self.option.removeprefix(f'--{self.kind}')}"


def parse_target(kind: str, given: str | float, best: bool = False, macs_weight: float = MACS_WEIGHT) -> Target:
    """A target from "2.0" or "2x" (speedup), "8ms" (latency), "0.3" or "1.2M" (params), "0.5" or "2G" (macs).

    A number is one without a unit, a latency in milliseconds.

    Raises:
        BadInput: The text is no such value, or asks for nothing.
    """
    number, unit = _parsed(given) if isinstance(given, str) else (given, "ms" if kind == "latency" else "")
    units = {"speedup": {"": 1.0, "x": 1.0}, "latency": _SECONDS}.get(kind, _COUNTS)
    if unit not in units or number <= 0:
        example = {"speedup": "2.0", "latency": "8ms", "params": "0.3 or 1.2M", "macs": "0.5 or 2G"}[kind]
        raise BadInput(f"`{kind}` {given}: is not understood; write it as {example}")
    asked = number * units[unit]
    if kind == "speedup" and asked <= 1:
        raise BadInput(f"`speedup` {given}: is no speedup; 2.0 asks for half the time")
    return Target(kind, asked, best, macs_weight)


def _parsed(text: str) -> tuple[float, str]:
    """The number and the unit of a text; 0 and "" where it is no number."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)", text.strip())
    return (float(match[1]), match[2].lower()) if match else (0.0, "")


@dataclass(frozen=True)
class Attempt:
    """A plan that was measured: the units kept, and the speedup that was predicted and found."""

    counts: Counts
    predicted: float
    measured: float


@dataclass(frozen=True)
class Reached:
    """Every attempt of a search in order, and the one to take; `floor` says that it is the smallest network."""

    attempts: tuple[Attempt, ...]
    best: Attempt
    floor: bool


#: From the speedup to plan for, the counts and the speedup predicted for them.
Planner = Callable[[float], tuple[Counts, float]]


def reach(asked: float, plan: Planner, measure: Callable[[Counts], float], fewest: Counts) -> Reached:
    """Plan, measure and correct until the measured speedup is within `TOLERANCE` of the asked one.

    Args:
        asked: The speedup asked for.
        plan: The planner, which gives counts for a goal, `fewest` where the goal is too high (infinity always is).
        measure: The function that measures the speedup of counts.
        fewest: The counts of the smallest network there is.

    Returns:
        The attempts. The best is the closest if that is within 5 %; else the slowest that is fast enough, else the
        fastest. `floor` is true where the smallest network is still slower than asked.
    """
    attempts: list[Attempt] = []
    goal = asked
    while len(attempts) < TRIES:
        found = _untried(plan, goal, attempts)
        if found is None and all(a.measured < asked for a in attempts):
            found = _untried(plan, math.inf, attempts)
        if found is None:
            break
        counts, predicted = found
        measured = measure(counts)
        if abs(measured / asked - 1) <= TOLERANCE:
            # A measurement meets the target by chance too often: it counts when the mean of two does.
            measured = math.sqrt(measured * measure(counts))
        attempts.append(Attempt(counts, predicted, measured))
        ratio = measured / asked
        if abs(ratio - 1) <= TOLERANCE:
            break
        if ratio < 1 and np.array_equal(counts, fewest):
            return Reached(tuple(attempts), max(attempts, key=lambda a: a.measured), True)
        goal = _corrected(asked, attempts)
    return Reached(tuple(attempts), _best(asked, attempts), False)


def _untried(plan: Planner, goal: float, attempts: list[Attempt]) -> tuple[Counts, float] | None:
    """A plan for about this goal that was not measured yet: widths come in blocks, so some goals share theirs."""
    faster = bool(attempts) and goal > attempts[-1].predicted
    for k in range(_NUDGES):
        counts, predicted = plan(max(goal * (1 + (_NUDGE if faster else -_NUDGE) * k), 1.0))
        if not any(np.array_equal(counts, a.counts) for a in attempts):
            return counts, predicted
    return None


def _corrected(asked: float, attempts: list[Attempt]) -> float:
    """The speedup to plan for: between the closest attempts on either side by their times, else in proportion.

    Closest by what was predicted, which has no noise. The dense network is an attempt that needs no measuring:
    predicted and found to be as fast as itself.
    """
    faster = [a for a in attempts if a.measured >= asked]
    if not faster:
        closest = max(attempts, key=lambda a: a.measured)
        return closest.predicted * asked / closest.measured
    high = min(faster, key=lambda a: a.predicted)
    slower = [(a.predicted, a.measured) for a in attempts if a.measured < asked and a.predicted < high.predicted]
    low_predicted, low = max(slower, default=(1.0, 1.0))
    share = (1 / low - 1 / asked) / (1 / low - 1 / high.measured)
    return 1 / ((1 - share) / low_predicted + share / high.predicted)


def _best(asked: float, attempts: list[Attempt]) -> Attempt:
    closest = min(attempts, key=lambda a: abs(a.measured / asked - 1))
    fast = [a for a in attempts if a.measured >= asked]
    if abs(closest.measured / asked - 1) <= _NEAR or not fast:
        return closest
    return min(fast, key=lambda a: a.measured)
