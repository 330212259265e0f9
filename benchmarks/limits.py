"""Seconds that users wait for small things, beside the most that they may take.

    python benchmarks/limits.py [--repeats 5]

Writes results/limits.json: the fastest of the repeats of each, which other work on the machine disturbs least. The exit
code is 1 where a limit is exceeded. `python -m pytest -m perf` checks the same limits.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

Job = Callable[[], Any]
RESULTS = Path(__file__).parent / "results"


def help_shown() -> Job:
    """`slimnet --help` in a process of its own."""
    command = [sys.executable, "-m", "slimnet", "--help"]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def chain_rounded() -> Job:
    """The widths of a chain of 200 convolutions, rounded to whole blocks."""
    import numpy as np
    from torch import nn

    import slimnet
    from slimnet.planning.budget import choose

    widths = [3, *[96, 128, 192, 256] * 50, 10]
    chain = nn.Sequential(*(nn.Conv2d(before, after, 1) for before, after in pairwise(widths)))
    trace = slimnet.trace(slimnet.load(chain, inputs="1x3x4x4"))
    rng = np.random.default_rng(0)
    scores = [rng.random(len(group)) for group in trace.groups]
    return lambda: choose(trace, scores, 0.45, round_to="auto")


def page_written() -> Job:
    """The page of ResNet-110."""
    import slimnet
    from slimnet.pipeline.export import Delivery
    from slimnet.pipeline.prune import prune
    from slimnet.report.html import write_report

    net = slimnet.load(None, arch="models:resnet110", inputs="1x3x32x32")
    content = prune(net, delivery=Delivery(bench_seconds=0, prove=False)).content

    def job() -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_report(content, Path(folder) / "report.html")

    return job


#: What is prepared and then timed, and its seconds at most.
LIMITS: dict[str, tuple[Callable[[], Job], float]] = {
    "slimnet --help": (help_shown, 0.5),
    "rounding of 200 groups": (chain_rounded, 0.5),
    "report.html of a deep network": (page_written, 3.0),
}


def fastest(prepare: Callable[[], Job], repeats: int = 5) -> float:
    """Seconds of the fastest of several runs; one more before them warms the caches."""
    job, seconds = prepare(), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def main() -> None:
    from harness import versions, write

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = {name: {"seconds": round(fastest(prepare, repeats), 3), "limit": limit}
            for name, (prepare, limit) in LIMITS.items()}  # fmt: skip
    write(RESULTS / "limits.json", {"versions": versions("torch", "matplotlib", "numpy"), "rows": rows})
    for name, row in rows.items():
        print(f"{name:32}{row['seconds']:6.3f} s of {row['limit']} s")
    sys.exit(any(row["seconds"] > row["limit"] for row in rows.values()))


if __name__ == "__main__":
    main()
