"""Time the steps of a job, and report which one is running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

#: Called with the name of the running step, the fraction of it that is done where that is known, and other news of it.
Watcher = Callable[[str, float | None, str], None]


class Progress(Protocol):
    """Reports the fraction of a step that is done, and a few words on how it goes."""

    def __call__(self, fraction: float, detail: str = "") -> None: ...


class Clock:
    """Seconds spent per step, in the order the steps were run."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._watcher = watcher

    @contextmanager
    def __call__(self, step: str) -> Iterator[Progress]:
        """Time a step; the value of the `with` statement reports the fraction done."""
        self._tell(step, None)

        def progress(fraction: float, detail: str = "") -> None:
            self._tell(step, fraction, detail)

        start = time.perf_counter()
        try:
            yield progress
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def _tell(self, step: str, fraction: float | None, detail: str = "") -> None:
        if self._watcher is not None:
            self._watcher(step, fraction, detail)
