"""From a target to widths: measure where the time goes, solve, and measure again until the target is met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph import surgery
from slimnet.graph.optimise import optimise
from slimnet.graph.units import Trace
from slimnet.methods.base import Scores
from slimnet.planning.budget import exceptions, take
from slimnet.planning.cost import Cost, multiply_adds, parameters
from slimnet.planning.latency_model import LatencyModel, fit
from slimnet.planning.solve import Choices, aligned, choices, solve
from slimnet.planning.target import MEASURED, TOLERANCE, Attempt, Reached, Target, reach
from slimnet.planning.widths import Bools, Counts
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import index_bounds, random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.timing.latency import Comparison, compare
from slimnet.timing.profile import profile

DENSE, SLIM = "dense", "slim"
#: Variants of the network that are profiled: fractions of every width, and as many with widths drawn at random.
_FRACTIONS = (0.25, 0.5, 0.75)
_RANDOM = 4
#: Random ones that only tell how wrong the model is.
_HELD_OUT = 2
_PROFILE_SECONDS = 6.0
_PROFILE_RUNS = 8
#: Fresh sessions that a speedup is measured in; an even number.
_SESSIONS = 8
#: Runs of a session, at least.
_RUNS = 10
#: Quantile of the times of either network: what disturbs a machine only adds to them.
_UNDISTURBED = 0.1


@dataclass(frozen=True)
class Problem:
    """A network, the scores of its units, and the widths to choose from; only those of the `free` groups vary."""

    trace: Trace
    scores: Scores
    choices: Choices
    free: Bools
    round_to: int | str | None = "auto"

    def slim(self, kept: Counts) -> ir.Model:
        """The network with so many units of each group, as it would be shipped."""
        return optimise(surgery.slim(self.trace, take(self.trace, self.scores, kept)))

    def weighted(self, target: Target) -> Problem:
        """The same problem, in which multiply-adds count as much as the target says."""
        return replace(self, choices=replace(self.choices, macs_weight=target.macs_weight))

    def importance(self, kept: Counts) -> float:
        """The fraction of the importance that is kept, where each group counts as one."""
        return self.choices.kept(kept) / len(kept)

    def solve(self, cost: Cost, budget: float) -> Counts:
        """The widths within a budget that maximise the objective: see `planning.solve`."""
        counts = solve(cost, budget, self.choices)
        rounded = aligned(self.trace, counts, self.free, self.round_to)
        return rounded if cost.total(rounded) <= budget else counts


@dataclass(frozen=True)
class SearchResult:
    """The units kept of each group, what the report says about it, and remarks for the user."""

    kept: Counts
    record: dict[str, Any]
    notes: tuple[str, ...] = ()

    def removed(self, trace: Trace, scores: Scores) -> Bools:
        """The units to remove when these scores decide which of each group are kept, bool [n_units]."""
        return take(trace, scores, self.kept)


@dataclass(frozen=True)
class Stopwatch:
    """Measures a network and slimmer ones under the same conditions.

    Attributes:
        trace: The trace of the dense network.
        backend: The backend that runs the networks.
        seconds: The longest time to measure one network, in seconds; a speedup, of two networks, takes twice as long.
    """

    trace: Trace
    backend: Backend = DEFAULT
    seconds: float = 3.0

    def dense_ms(self) -> float:
        """Median latency of the dense network, in ms."""
        return self._compare({DENSE: self._dense}, self.seconds).timing(DENSE).median

    def speedup(self, slim: ir.Model) -> float:
        """How many times faster another network is, run by run beside the dense one, while nothing disturbs them.

        In fresh sessions: where the memory of one happens to lie can cost a few per cent all its life. A disturbance
        can outlast several of them and slow the smaller network more, whose layers wait for each other more often (on
        virtual machines whose cores move apart): medians then differ by 15 % from one minute to the next.
        """
        pair = [(DENSE, self._dense), (SLIM, slim)]
        seconds = self.seconds * len(pair) / _SESSIONS
        timed = [self._compare(dict(pair[::order]), seconds) for order in (1, -1) * (_SESSIONS // 2)]
        dense_s, slim_s = (np.concatenate([found.seconds(name) for found in timed]) for name, _ in pair)
        return float(np.quantile(dense_s, _UNDISTURBED) / np.quantile(slim_s, _UNDISTURBED))

    def layers(self, models: Sequence[ir.Model]) -> list[dict[str, float]]:
        """Latency of every layer of each network, in ms, by the layer's name."""
        named = {str(k): model for k, model in enumerate(models)}
        found = profile(named, self._feed, self.backend, _PROFILE_RUNS, _PROFILE_SECONDS)
        return [found[name].layers for name in named]

    def _compare(self, models: Mapping[str, ir.Model], seconds: float) -> Comparison:
        return compare(models, self._feed, self.backend, min_runs=_RUNS, max_seconds=seconds)

    @cached_property
    def _dense(self) -> ir.Model:
        return optimise(self.trace.net.model)

    @cached_property
    def _feed(self) -> dict[str, np.ndarray]:
        return random_inputs(self.trace.net, self.trace.net.inputs, bounds=index_bounds(self.trace))


class LatencySearch:
    """Finds the widths that meet targets; a network is profiled, and timed as it is, once for all of them.

    Args:
        watch: The function that makes the stopwatch for a traced network.
    """

    def __init__(self, watch: Callable[[Trace], Stopwatch] = Stopwatch) -> None:
        self._watch = watch
        self._models: dict[Any, LatencyModel] = {}
        self._dense: dict[Any, float] = {}

    def find(self, problem: Problem, target: Target, clock: Clock) -> SearchResult:
        """The widths that meet a target.

        Raises:
            BadInput: even the smallest network does not meet it, and `target.best` is not set.
        """
        problem = problem.weighted(target)
        if target.kind in MEASURED:
            return self._timed(problem, target, clock)
        with clock("plan"):
            return _counted(problem, target)

    def best(self, problems: Sequence[Problem], target: Target, clock: Clock) -> int:
        """The index of the problem, all of one network, whose model promises the best plan for a measured target."""
        asked = self._asked(problems[0].trace, target, clock)
        problems = [problem.weighted(target) for problem in problems]

        def promise(problem: Problem) -> tuple[bool, float]:
            model = self.latency_model(problem, clock).cost
            budget = model.total(problem.choices.most) / asked
            kept = problem.solve(model, budget)
            over = model.total(kept) / budget - 1
            return (False, -over) if over > 0 else (True, problem.choices.objective(kept) / len(kept))

        return max(range(len(problems)), key=lambda k: promise(problems[k]))

    def latency_model(self, problem: Problem, clock: Clock) -> LatencyModel:
        """The model of a network's latency, from profiles of it and of slimmer variants."""
        trace = problem.trace
        key = *_network(trace), problem.free.tobytes(), *map(len, trace.groups)
        if key not in self._models:
            with clock("profile"):
                variants = _variants(problem.choices)
                times = self._watch(trace).layers([problem.slim(kept) for kept in variants])
            self._models[key] = fit(trace, list(zip(variants, times, strict=True)), _HELD_OUT)
        return self._models[key]

    def _dense_ms(self, trace: Trace, clock: Clock) -> float:
        """Median latency of a dense network, in ms; measured once."""
        key = _network(trace)
        if key not in self._dense:
            with clock("measure"):
                self._dense[key] = self._watch(trace).dense_ms()
        return self._dense[key]

    def _asked(self, trace: Trace, target: Target, clock: Clock) -> float:
        """The speedup that a measured target asks for."""
        return target.asked if target.kind == "speedup" else self._dense_ms(trace, clock) / target.asked

    def _timed(self, problem: Problem, target: Target, clock: Clock) -> SearchResult:
        model, watch = self.latency_model(problem, clock), self._watch(problem.trace)
        dense_ms, asked = self._dense_ms(problem.trace, clock), self._asked(problem.trace, target, clock)
        if asked <= 1:
            raise BadInput(
                f"{target.argument}: {problem.trace.net.name} takes {dense_ms:.3g} ms as it is; ask for less"
            )
        dense = model.cost.total(problem.choices.most)

        def plan(goal: float) -> tuple[Counts, float]:
            kept = problem.solve(model.cost, dense / goal)
            return kept, dense / model.cost.total(kept)

        def measure(kept: Counts) -> float:
            found = watch.speedup(problem.slim(kept))
            progress(0.0, f"{found:.2f}x of {asked:.2f}x")
            return found

        with clock("measure") as progress:
            found = reach(asked, plan, measure, problem.choices.fewest)
        if found.floor and not target.best:
            raise BadInput(_too_much(problem, target, model.cost, found.best, dense_ms))
        return _timed_result(problem, target, model, found, asked, dense_ms)


def _network(trace: Trace) -> tuple[Any, ...]:
    """A key that tells networks apart: hash of the graph, and shapes of the inputs."""
    return trace.model_hash, tuple(trace.net.inputs.items())


def problem(
    trace: Trace,
    scores: Scores,
    *,
    round_to: int | str | None = "auto",
    ratio_for: Sequence[tuple[str, float]] = (),
    ignore: Sequence[str] = (),
    coupled: bool = True,
    adds_up: bool = False,
) -> Problem:
    """The problem of choosing widths; the arguments are those of `budget.choose` and `solve.choices`."""
    kept, free = exceptions(trace, scores, ratio_for=ratio_for, ignore=ignore, coupled=coupled)
    return Problem(trace, scores, choices(trace, scores, kept, free, round_to, adds_up), free, round_to)


def _variants(choices: Choices) -> list[Counts]:
    """Widths to profile: all, the fewest, even fractions, and random ones."""
    rng = np.random.default_rng(0)
    even = [[n[np.abs(n - f * n[-1]).argmin()] for n in choices.counts] for f in _FRACTIONS]
    drawn = [[rng.choice(n) for n in choices.counts] for _ in range(_RANDOM)]
    return [choices.most, choices.fewest, *(np.array(counts) for counts in (*even, *drawn))]


def _timed_result(
    problem: Problem, target: Target, model: LatencyModel, found: Reached, asked: float, dense_ms: float
) -> SearchResult:
    best, name = found.best, target.option

    def said(speedup: float) -> float:
        return speedup if target.kind == "speedup" else dense_ms / speedup

    scale = dense_ms / best.predicted / model.cost.total(best.counts)
    record = {
        "kind": target.kind,
        "asked": target.asked,
        "predicted": said(best.predicted),
        "measured": said(best.measured),
        "tries": [{"predicted": said(a.predicted), "measured": said(a.measured)} for a in found.attempts],
        "importance": problem.importance(best.counts),
        "model_error": asdict(model.error) if model.error is not None else None,
        "layers": {layer: ms * scale for layer, ms in model.cost.by_layer(best.counts).items()},
    }
    notes = []
    if found.floor:
        notes.append(f"{name}: cannot be reached, this is the smallest network: {best.measured:.2f}x faster")
    elif abs(best.measured / asked - 1) > TOLERANCE:
        notes.append(f"{name}: the best of {len(found.attempts)} plans was measured {best.measured:.2f}x faster "
                     f"where {asked:.2f}x was asked; widths come in blocks")  # fmt: skip
    return SearchResult(best.counts, record, tuple(notes))


def _too_much(problem: Problem, target: Target, cost: Cost, floor: Attempt, dense_ms: float) -> str:
    ms = dense_ms / floor.measured
    return (
        f"{target.argument}: {problem.trace.net.name} cannot be made so fast: with one block of channels in every "
        f"group it still takes {ms:.3g} ms ({floor.measured:.2f}x faster), {_largest(cost, floor.counts)}; ask for "
        "less, or take that with `best=True`"
    )


def _largest(cost: Cost, kept: Counts) -> str:
    layers = cost.by_layer(kept)
    name = max(layers, key=layers.__getitem__)
    return f"the largest part of it in {name} ({layers[name] / sum(layers.values()):.0%})"


def _counted(problem: Problem, target: Target) -> SearchResult:
    """The widths that leave the parameters or MACs of a target."""
    cost = (parameters if target.kind == "params" else multiply_adds)(problem.trace)
    dense, least = cost.total(problem.choices.most), cost.total(problem.choices.fewest)
    budget = target.asked * dense if target.asked < 1 else target.asked
    if budget >= dense:
        raise BadInput(f"{target.argument}: {problem.trace.net.name} has {dense:,.0f} as it is; ask for less")
    if budget < least and not target.best:
        raise BadInput(
            f"{target.argument}: {problem.trace.net.name} cannot be made so small: one block of channels in every "
            f"group leaves {least:,.0f}, {_largest(cost, problem.choices.fewest)}; ask for more, or take that with "
            "`best=True`"
        )
    kept = problem.solve(cost, budget)
    left = cost.total(kept)
    record = {"kind": target.kind, "asked": target.asked, "predicted": left, "measured": left, "tries": [],
              "importance": problem.importance(kept), "model_error": None, "layers": {}}  # fmt: skip
    note = f"{target.option}: cannot be reached, this is the smallest network: {left:,.0f} left"
    return SearchResult(kept, record, (note,) if budget < least else ())
