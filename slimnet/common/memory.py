"""How large anything may become: what the memory of this machine holds. Asked before it is made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from slimnet.common.errors import BadInput

#: Bytes that are reckoned for one element of a tensor: drawing it in double precision, and a copy in single.
ELEMENT = 16
#: What to do about an input of a network that is too large.
_ADVICE = "give smaller sizes with `inputs`, or export the model again"
#: Where there is no way to ask: more than any machine has.
_UNKNOWN = 1 << 46


@cache
def memory(limit: str = "/sys/fs/cgroup/memory.max") -> int:
    """Bytes of memory that this process may use: the machine's, or its container's where that has less."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        machine = _UNKNOWN
    try:
        return min(machine, int(Path(limit).read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine


def check_size(shape: Iterable[int], what: str, each: int = ELEMENT, advice: str = _ADVICE) -> None:
    """Make sure that memory holds an array of this shape, with so many bytes for each element.

    Raises:
        BadInput: It does not; the message begins with `what`, such as "net.onnx: input x", and ends with `advice`.
    """
    sizes = list(shape)
    if (needed := math.prod(sizes) * each) > memory():
        raise BadInput(
            f"{what} has {'x'.join(map(str, sizes))} elements: working on them takes {_gib(needed)} GiB of memory, and "
            f"this machine has {_gib(memory())}; {advice}"
        )


def _gib(count: int) -> str:
    return f"{count / 2**30:,.0f}"
