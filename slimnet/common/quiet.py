"""Other libraries kept quiet for a while, and left as they were."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_errors(*loggers: str) -> Iterator[None]:
    """Loggers of these names say nothing below an error; afterwards, whatever happens, their levels are as before."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
