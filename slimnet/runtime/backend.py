"""What runs networks, whichever runtime it is: a backend makes sessions, and a session runs one network.

`OnnxRuntime` is the first implementation. Another one is a class with these methods, which its package registers under
the entry point group `slimnet.backends` (see `registry`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput

Model: TypeAlias = ir.Model | str | os.PathLike[str]
Feeds: TypeAlias = Mapping[str, npt.NDArray[Any]]
#: Runs a network so many times in a row on inputs that are bound already; returns the seconds that took.
Timed: TypeAlias = Callable[[int], float]


class RunFailed(BadInput):
    """A runtime has loaded a network but cannot run it on the inputs it was given.

    Attributes:
        reason: What the runtime says about it, on one line.
    """

    def __init__(self, runtime: str, reason: str) -> None:
        super().__init__(f"{runtime} cannot run it on these inputs: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class RuntimeInfo:
    """What a network was run with.

    Attributes:
        name: The name of the runtime, such as "onnxruntime".
        version: Its version.
        provider: The part of the runtime that computes, such as "CPUExecutionProvider"; None where that is not known.
        threads: The size of the thread pool; None where the choice was left to the runtime.
        cpu: What the CPU calls itself.
        cores: The number of cores that the process may use.
    """

    name: str
    version: str
    provider: str | None
    threads: int | None
    cpu: str
    cores: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + ("" if self.provider is None else f" ({self.provider})")


class Session(Protocol):
    """One network, loaded into a runtime."""

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the inputs that have to be fed."""

    def run(self, feed: Feeds) -> list[npt.NDArray[Any]]:
        """All outputs for these inputs. Raises RunFailed where the runtime cannot compute them.

        An output that is a sequence gives one array per element, one that is a map its keys and its values.
        """

    def bind(self, feed: Feeds) -> Timed:
        """Lay these inputs where the runtime wants them, so that what is timed is the network and nothing else.

        What is returned raises RunFailed where the runtime cannot run the network on them.
        """


@dataclass(frozen=True)
class NodeRuns:
    """One node that a runtime has run: its name and op there, and the seconds of each run, the earliest first."""

    name: str
    op: str
    seconds: Sequence[float]


class Probe(Session, Protocol):
    """A session that also takes the time of every node."""

    @property
    def graph(self) -> ir.Graph:
        """The graph that is really run, after the runtime's own changes."""

    def nodes(self) -> list[NodeRuns]:
        """The nodes in the order they ran, without those inside another one; called once, after the last run."""


class Backend(Protocol):
    """A runtime and how it is to run networks. Backends are immutable, and equal ones do the same."""

    @property
    def provider(self) -> str:
        """The part of the runtime that computes."""

    @property
    def threads(self) -> int | None:
        """The size of the thread pool; None leaves it to the runtime."""

    def with_threads(self, threads: int | None) -> Backend:
        """The same backend with another size of the thread pool."""

    def describe(self) -> RuntimeInfo:
        """What every result that was measured with this backend says about it."""

    def session(self, model: Model, optimise: bool = True) -> Session:
        """Load a network, which is left as it is; without the runtime's own optimisations if `optimise` is false.

        Raises:
            BadInput: The runtime cannot load it; the message names the file.
        """

    def probe(self, model: ir.Model, folder: Path) -> Probe:
        """Load a network to time its nodes one by one; `folder` is an empty folder for the runtime's files.

        Names of the runtime's nodes contain the names of the model's nodes they come from, and those they are made of.

        Raises:
            BadInput: The runtime cannot load the network, or cannot time nodes.
        """


def tap(model: ir.Model, values: Sequence[str], backend: Backend) -> Session:
    """A session of a copy of a model that puts out these values, inner ones or inputs, in place of its outputs."""
    copy = model.clone()
    found = {v.name: v for v in copy.graph.inputs} | {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs[:] = [found[name] for name in values]
    return backend.session(copy)


def title(model: Model) -> str:
    """How a message names a model: its file, or its graph's name."""
    return (model.graph.name or "the model") if isinstance(model, ir.Model) else str(model)
