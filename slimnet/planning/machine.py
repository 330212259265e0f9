"""Facts about the machine that a network is planned for; what depends on them asks here, by the name of the module."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def native_block(cpuinfo: str = "/proc/cpuinfo") -> int:
    """Channels that onnxruntime's blocked layout handles at once: 16 with AVX-512, 8 with anything less.

    Without the file (macOS, Windows) it is taken for 8; give the number to round for another machine.
    """
    path = Path(cpuinfo)
    return 16 if path.exists() and "avx512f" in path.read_text(encoding="utf-8", errors="replace") else 8
