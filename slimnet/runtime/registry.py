"""Backends by name: onnxruntime's, and those that other packages register."""

from __future__ import annotations

from importlib.metadata import entry_points

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
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
    for found in entry_points(group=GROUP, name=runtime):
        try:
            make = found.load()
        except Exception as error:
            raise BadInput(f"`provider` {name}: {found.value} cannot be loaded ({essence(error)})") from error
        made: Backend = make(provider or None, threads)
        return made
    return OnnxRuntime(name, threads)
