"""The machine this process runs on."""

import os
import platform
from functools import cache
from pathlib import Path


def cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu() -> str:
    """What the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def native_block(cpuinfo: str = "/proc/cpuinfo") -> int:
    """Channels that onnxruntime's blocked layout handles at once: 16 with AVX-512, 8 with anything less.

    Without the file (macOS, Windows) it is taken for 8; give the number to round for another machine.
    """
    path = Path(cpuinfo)
    return 16 if path.exists() and "avx512f" in path.read_text(encoding="utf-8", errors="replace") else 8
