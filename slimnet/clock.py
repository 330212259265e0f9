"""Time the steps of a job and tell whoever watches which one is running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Called with the name of the running step and, where it is known, the fraction of it that is done.
Watcher = Callable[[str, float | None], None]


class Clock:
    """Seconds spent per step, in the order the steps were run."""

    def __init__(self, watcher: Watcher | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._watcher = watcher

    @contextmanager
    def __call__(self, step: str) -> Iterator[Callable[[float], None]]:
        """Time a step; the value of the `with` statement reports the fraction done."""
        self._tell(step, None)
        start = time.perf_counter()
        try:
            yield lambda fraction: self._tell(step, fraction)
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def _tell(self, step: str, fraction: float | None) -> None:
        if self._watcher is not None:
            self._watcher(step, fraction)
