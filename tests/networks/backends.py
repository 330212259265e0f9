"""A backend for tests, in which nothing depends on how busy the machine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from slimnet.runtime.backend import Feeds, Model, NodeRuns, RuntimeInfo, Timed
from slimnet.runtime.feeds import fed_inputs
from slimnet.runtime.onnxruntime import OnnxRuntime

#: Seconds that a weight takes.
WEIGHT_S = 1e-7


def elements(values: Sequence[ir.Value | None]) -> int:
    """How many weights lie in those of the values that are constant."""
    return sum(v.const_value.size for v in values if v is not None and v.const_value is not None)


def seconds_of(model: ir.Model) -> float:
    """The time a network takes: that of its weights, and never none."""
    return WEIGHT_S * (elements(list(model.graph.initializers.values())) or 1)


@dataclass(frozen=True)
class Simulated:
    """A runtime whose outputs are onnxruntime's and whose times are made up.

    Attributes:
        provider, threads: what is asked for; any provider is there.
        seconds: the time of a single sample of a network in one run.
        noise: what each run's time is multiplied by.
        version, cores: of the runtime and the machine.
        log: what was done with which provider and threads: "session" and "probe" for every network that was loaded,
            "run" and "time" for every run and every timed loop.
        batches: the first axis of the first input of every run.
    """

    provider: str = "simulator"
    threads: int | None = None
    seconds: Callable[[ir.Model], float] = seconds_of
    noise: Callable[[], float] = lambda: 1.0
    version: str = "1.0"
    cores: int = 8
    log: list[tuple[str, str, int | None]] = field(default_factory=list, compare=False)
    batches: list[int] = field(default_factory=list, compare=False)

    def with_threads(self, threads: int | None) -> Simulated:
        return replace(self, threads=threads)

    def describe(self) -> RuntimeInfo:
        return RuntimeInfo("simulated", self.version, self.provider, self.threads, "an abacus", self.cores)

    def session(self, model: Model, optimise: bool = True) -> SimulatedSession:
        self.note("session")
        return SimulatedSession(self, model if isinstance(model, ir.Model) else ir.load(model), optimise)

    def probe(self, model: ir.Model, folder: Path) -> SimulatedProbe:
        assert not list(folder.iterdir())
        self.note("probe")
        return SimulatedProbe(self, model, True)

    def note(self, what: str) -> None:
        self.log.append((what, self.provider, self.threads))


class SimulatedSession:
    def __init__(self, backend: Simulated, model: ir.Model, optimise: bool) -> None:
        self.backend, self.model = backend, model
        self.inputs = tuple(fed_inputs(model))
        self._real = lambda: OnnxRuntime(threads=1).session(model, optimise)

    def run(self, feed: Feeds) -> list[np.ndarray[Any, Any]]:
        self.backend.note("run")
        self.backend.batches.append(len(feed[self.inputs[0]]))
        return self._real().run(feed)

    def bind(self, feed: Feeds) -> Timed:
        once = self.backend.seconds(self.model) * max(len(np.atleast_1d(feed[name])) for name in self.inputs)

        def timed(runs: int) -> float:
            self.backend.note("time")
            return sum(once * self.backend.noise() for _ in range(runs))

        return timed


class SimulatedProbe(SimulatedSession):
    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    def bind(self, feed: Feeds) -> Timed:
        timed, self.runs = super().bind(feed), 0

        def counted(runs: int) -> float:
            self.runs += runs
            return timed(runs)

        return counted

    def nodes(self) -> list[NodeRuns]:
        """Every node takes the time of its weights."""
        return [
            NodeRuns(node.name or "", node.op_type, [WEIGHT_S * elements(node.inputs)] * self.runs)
            for node in self.graph
        ]
