"""Time `slimnet analyze` without data, step by step: medians of three warm repetitions, in one process.

    python benchmarks/analyze.py [--networks torchvision:resnet50,...] [--threads 2] [--repeats 3]

Writes results/analyze.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from harness import RESULTS, Row, versions, write

#: Seconds that the criteria may take on ResNet-50.
TO_REACH = 10.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--networks", default="torchvision:resnet50", help="as --arch, comma-separated")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3)
    given = options.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(given.threads)  # read when numpy is imported, below
    rows = {arch: measure(arch, given.repeats) for arch in given.networks.split(",")}
    about = versions("numpy", "scipy", "statsmodels")
    table = {"versions": about, "threads": given.threads, "to_reach_s": TO_REACH, "networks": rows}
    write(RESULTS / "analyze.json", table)
    for arch, row in rows.items():
        print(arch, row)


def measure(arch: str, repeats: int) -> Row:
    """Median seconds of every step, and the sizes of the two files."""
    import slimnet
    from slimnet.common.clock import Clock
    from slimnet.io.torch_arch import build
    from slimnet.pipeline.analyze import analyze
    from slimnet.report.analysis import write_analysis

    trace = slimnet.trace(slimnet.load(build(arch), inputs=(1, 3, 224, 224)))
    runs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "analysis.html"
        for _ in range(repeats + 1):
            clock = Clock()
            found = analyze(trace, clock=clock)
            with clock("report"):
                write_analysis(found.to_json(), page)
            runs.append(dict(clock.seconds))
        size = page.stat().st_size
    steps = {step: round(median(run[step] for run in runs[1:]), 3) for step in runs[0]}
    total = round(median(sum(run.values()) for run in runs[1:]), 3)
    units = sum(group.units for group in found.criteria.groups)
    return {"parameters": found.params, "units": units, "seconds": steps, "total_s": total, "page_bytes": size,
            "skipped": sorted(found.criteria.skipped)}  # fmt: skip


if __name__ == "__main__":
    main()
