"""Random networks and random plans for as long as one likes: slim equals mask, and shrinking changes no output.

    python benchmarks/fuzz.py [--graphs 10000] [--seed 0] [--processes 2] [--minutes 60]

The networks are put together from the blocks of `tests/networks/sketch.py`, with quantised weights and activations and
subgraphs among them. Every one is traced, exactly and with `--allow-inexact`; under a random plan each, every
intermediate value of slim is compared with that of mask, and the labels, the counts and the shapes that are stated are
checked (`tests/networks/graphs.py`). Then slices of its weights are set to zero and `slimnet shrink` has to end well.
Writes results/fuzz.json; a mismatch stands there with the seed of its graph, which `--one SEED` runs again.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import re
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness

FILE = harness.RESULTS / "fuzz.json"
#: Graphs that one task of a process takes.
_BATCH = 100
#: Differences in this many of the inputs that are tried count: rounding can move one code of a quantised value.
_INPUTS, _ALIKE = 5, 3
#: How `slimnet shrink` may end without a result.
_ENDS = ("no channel is zero everywhere it matters", "every output is NaN or infinite", "is NaN or infinite")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--graphs", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=0, help="of the first graph")
    options.add_argument("--processes", type=int, default=os.cpu_count())
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin no graph after this time")
    options.add_argument("--one", type=int, help="only the graph of this seed, with what goes wrong")
    given = options.parse_args()
    if given.one is not None:
        print(examine(given.one))
        return
    start = time.monotonic()
    until = time.time() + 60 * given.minutes
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[dict[str, Any]] = []
    seeds = range(given.seed, given.seed + given.graphs, _BATCH)
    with ProcessPoolExecutor(given.processes) as pool:
        tasks = [pool.submit(batch, seed, min(_BATCH, given.seed + given.graphs - seed), until) for seed in seeds]
        for task in tasks:
            found, mismatches = task.result()
            counts.update(found)
            wrong += mismatches
            if mismatches:
                print(mismatches, flush=True)
    harness.write(
        FILE,
        {
            "command": "python benchmarks/" + " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": given.seed,
            **counts,
            "mismatches": wrong,
            "minutes": round((time.monotonic() - start) / 60, 1),
            "commit": harness.commit(),
            "versions": harness.versions("onnx", "onnxruntime", "onnx-ir", "onnxscript", "numpy"),
        },
    )
    print(FILE.read_text())


def batch(first: int, count: int, until: float) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """What became of some graphs: how many of what was done, and what went wrong."""
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[dict[str, Any]] = []
    ahead = list(range(first, first + count))
    shrinks = True
    while ahead and time.time() < until:
        # A process of their own: a failed assertion in a runtime ends it.
        with ProcessPoolExecutor(1) as pool:
            try:
                while ahead and time.time() < until:
                    found, mismatches = pool.submit(examine, ahead[0], shrinks).result()
                    counts.update(found)
                    wrong += mismatches
                    ahead.pop(0)
                    shrinks = True
            except BrokenProcessPool:
                if shrinks and _crashes(ahead[0]):
                    shrinks = False
                    counts["shrink where onnxruntime crashes on the network as it is"] += 1
                else:
                    wrong.append({"graph": ahead.pop(0), "error": "the process ended: a runtime crashed"})
    return dict(counts), wrong


def _crashes(seed: int) -> bool:
    """Whether onnxruntime ends the process that loads the network with zeros, of which nothing has been removed."""
    with ProcessPoolExecutor(1) as pool:
        try:
            pool.submit(_load, seed).result()
        except BrokenProcessPool:
            return True
    return False


def _load(seed: int) -> None:
    from slimnet.runtime.onnxruntime import OnnxRuntime
    from tests.networks.sketch import sketch, with_zeros

    drawn = _Drawn.by(seed)
    OnnxRuntime().session(with_zeros(sketch(drawn.steps, drawn.style), seed, drawn.share).model)


@dataclass(frozen=True)
class _Drawn:
    """What a seed stands for: the blocks of a network and how they are written, and what is done with it."""

    steps: list[tuple[str, int]]
    style: int
    share: float
    prefer: str | None
    how: str

    @classmethod
    def by(cls, seed: int) -> _Drawn:
        from tests.networks.sketch import CODED, IMAGE, TOKENS

        r = random.Random(seed)
        blocks = sorted({*IMAGE, *TOKENS, *CODED})
        return cls(
            [(r.choice(blocks), r.randrange(100)) for _ in range(r.randint(1, 8))],
            r.randrange(1000),
            r.choice([0.2, 0.4, 0.6]),
            r.choice([None, "heads", "head-dims"]),
            r.choice(["", "absorb", "assume_masked", "gather"]),
        )


def examine(seed: int, shrinks: bool = True) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """What was done with one graph, and what went wrong."""
    from tests.networks.sketch import sketch

    drawn = _Drawn.by(seed)
    counts: collections.Counter[str] = collections.Counter(graphs=1)
    wrong = []
    jobs = [
        ("exact", lambda: planned(sketch(drawn.steps, drawn.style), seed, False, None)),
        ("inexact", lambda: planned(sketch(drawn.steps, drawn.style), seed, True, drawn.prefer)),
        ("shrink", lambda: shrunk(sketch(drawn.steps, drawn.style), seed, drawn.share, drawn.how)),
    ]
    for name, job in jobs if shrinks else jobs[:2]:
        try:
            counts.update(job())
        except Exception as error:
            where = [line.strip() for line in traceback.format_exc().splitlines() if "slimnet/" in line]
            message = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:300]
            wrong.append({"graph": seed, **asdict(drawn), "job": name, "error": message, "at": where[-1:]})
    return dict(counts), wrong


def planned(net: Any, seed: int, allow_inexact: bool, prefer: str | None) -> dict[str, int]:
    """Trace a network and compare slim with mask under a random plan."""
    import numpy as np

    from slimnet.graph.trace import RULE_FAILED, trace
    from slimnet.runtime.feeds import index_bounds
    from tests.networks.graphs import assert_same, draw, feeds

    found = trace(net, allow_inexact, prefer)
    failed = [pin.why for pin in found.pins if RULE_FAILED in pin.why]
    assert not failed, failed
    removed = draw(found, np.random.default_rng(seed))
    bounds = index_bounds(found)
    differ = []
    for k in range(_INPUTS):
        try:
            assert_same(found, removed, feeds(net, seed + k, bounds))
        except AssertionError as difference:
            differ.append(difference)
        if not differ:
            break
    if len(differ) >= _ALIKE:
        raise differ[0]
    return {"plans": 1, "units": found.n_units, "units removed": int(removed.sum())}


def shrunk(net: Any, seed: int, share: float, how: str) -> dict[str, int]:
    """Set slices of the weights to zero, and run `slimnet shrink`."""
    from slimnet.common.errors import BadInput, VerifyFailed
    from slimnet.graph.shrink import shrinkable
    from slimnet.graph.surgery import slim
    from slimnet.pipeline.config import RunConfig
    from slimnet.pipeline.shrink import shrink
    from tests.networks.graphs import feeds, run
    from tests.networks.sketch import with_zeros

    masked = with_zeros(net, seed, share)
    try:
        report = shrink(masked, RunConfig(bench_seconds=0, prove=False), **({how: True} if how else {}))
    except (BadInput, VerifyFailed) as error:
        if "does not run" in str(error) or "cannot run it" in str(error):
            found = shrinkable(masked, how == "assume_masked")
            for model in (masked.model, slim(found.trace, found.trace.never_empty(found.removed))):
                run(model, feeds(masked, seed))
            return {"shrink where the runtime's own optimiser fails": 1}
        if "Rounding alone moves this network" in str(error):
            return {"shrink where rounding alone differs as much": 1}
        if not any(end in str(error) for end in _ENDS):
            raise
        return {"shrink without a result": 1}
    assert report.content["verify"]["exact"]
    return {"shrunk": 1}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
