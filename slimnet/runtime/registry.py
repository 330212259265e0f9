"""Backends by name: onnxruntime's, and those that other packages register."""

from __future__ import annotations

from slimnet.common.entry_points import foreign, installed
from slimnet.common.errors import BadInput
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import NAME, OnnxRuntime

#: Entry points of this group name a callable of (provider or None, threads or None) that returns a `Backend`.
GROUP = "slimnet.backends"


def backend(name: str = "cpu", threads: int | None = None) -> Backend:
    """The backend of a name.

    Args:
        name: An execution provider of onnxruntime, such as "cpu" or "cuda"; or RUNTIME or RUNTIME:PROVIDER, where
            RUNTIME is "onnxruntime" or what another package has registered under `slimnet.backends`.
        threads: The size of the thread pool; None leaves it to the runtime.

    Raises:
        BadInput: The runtime is not installed or cannot be loaded.
    """
    runtime, _, provider = name.partition(":")
    if runtime == NAME:
        return OnnxRuntime(provider or "cpu", threads)
    for found in installed(GROUP).select(name=runtime):
        with foreign(found, f"`provider` {name}"):
            made: Backend = found.load()(provider or None, threads)
        return made
    if provider:
        have = ", ".join(sorted({NAME, *installed(GROUP).names}))
        raise BadInput(f"`provider` {name}: no runtime is called {runtime}; installed are {have}")
    return OnnxRuntime(name, threads)
