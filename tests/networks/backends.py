"""A backend for tests, in which nothing depends on how busy the machine is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.runtime.backend import Feeds, Model, NodeRuns, RuntimeInfo, Timed
from slimnet.runtime.feeds import fed_inputs
from slimnet.runtime.onnxruntime import OnnxRuntime

#: Seconds that a weight takes.
WEIGHT_S = 1e-7
#: onnxruntime's own, whatever a test puts in its place.
_SESSION = OnnxRuntime.session


def elements(values: Sequence[ir.Value | None]) -> int:
    """How many weights lie in those of the values that are constant."""
    return sum(v.const_value.size for v in values if v is not None and v.const_value is not None)


def seconds_of(model: ir.Model) -> float:
    """The time a network takes: that of its weights, and 100 us at least."""
    return max(1e-4, WEIGHT_S * elements(list(model.graph.initializers.values())))


@dataclass(frozen=True)
class Simulated:
    """A runtime whose outputs are onnxruntime's and whose times are made up.

    Attributes:
        provider, threads: what is asked for; any provider is there.
        seconds: the time of a single sample of a network in one run.
        noise: what the time of each run is multiplied by.
        luck: what all times of a session are multiplied by, drawn as it is made: where its memory happens to lie.
        version, cores, name: of the runtime and the machine.
        log: what was done with which provider and threads: "session" and "probe" for every network that was loaded,
            "run" and "time" for every run and every timed loop.
        batches: the first axis of the first input of every run.
    """

    provider: str = "simulator"
    threads: int | None = None
    seconds: Callable[[ir.Model], float] = seconds_of
    noise: Callable[[], float] = lambda: 1.0
    luck: Callable[[], float] = lambda: 1.0
    version: str = "1.0"
    cores: int = 8
    name: str = "simulated"
    log: list[tuple[str, str, int | None]] = field(default_factory=list, compare=False)
    batches: list[int] = field(default_factory=list, compare=False)

    def with_threads(self, threads: int | None) -> Simulated:
        return replace(self, threads=threads)

    def describe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, self.version, self.provider, self.threads, "an abacus", self.cores)

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
        self._luck = backend.luck()
        self._loaded = cache(lambda: _SESSION(OnnxRuntime(threads=1), model, optimise))

    def run(self, feed: Feeds) -> list[np.ndarray[Any, Any]]:
        self.backend.note("run")
        self.backend.batches.append(len(feed[self.inputs[0]]))
        return self._loaded().run(feed)

    def bind(self, feed: Feeds) -> Timed:
        samples = max(len(np.atleast_1d(feed[name])) for name in self.inputs)
        once = self._luck * self.backend.seconds(self.model) * samples

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


def simulated(provider: str | None, threads: int | None) -> Simulated:
    """What `install` registers."""
    return Simulated(provider or "simulator", threads)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str = "tests.networks.backends:simulated") -> None:
    """Put a distribution on the path, as pip would install it, whose backend is called "simulated"."""
    info = folder / "site" / "simulated_runtime-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: simulated-runtime\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[slimnet.backends]\nsimulated = {target}\n")
    monkeypatch.syspath_prepend(str(folder / "site"))
