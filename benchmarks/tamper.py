"""Change one thing in a slim file and see whether verify notices.

    python benchmarks/tamper.py [--only PATTERN] [--each 3] [--seed 0]

For each network half of every group is removed. Copies of the slim network get one change each: a weight, two swapped
channels, a bias set to zero, a counted size written down. Whether a change matters is decided without verify: both
networks run on inputs that verify does not draw, of the same ranges and sizes. Every change that moves any output by
more than three times the tolerance has to be noticed. Needs the `bench` extra. Writes results/tamper.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import harness
import networks
import numpy as np
import torchvision

sys.path.insert(0, str(Path(__file__).parent.parent))

from slimnet import load
from slimnet.common.errors import SlimnetError
from slimnet.graph.net import Net
from slimnet.graph.optimise import optimise
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.runtime.feeds import index_bounds
from slimnet.verification.draws import THOROUGH
from slimnet.verification.verify import verify
from tests.networks.graphs import net
from tests.networks.tampered import Truth, tamperings
from tests.verification.test_tampering import NETWORKS

FILE = harness.RESULTS / "tamper.json"
ZOO = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "squeezenet1_1", "mnasnet0_5")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", default="*", help="names, as a shell pattern")
    options.add_argument("--each", type=int, default=3, help="changes of each kind")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    rows: dict[str, Any] = {}
    for name in (*NETWORKS, *ZOO):
        if fnmatchcase(name, given.only):
            started = time.perf_counter()
            rows[name] = tampered_with(built(name), given.each, given.seed)
            print(f"{name}: {rows[name]} ({time.perf_counter() - started:.0f} s)", flush=True)
    total = {key: sum(row[key] for row in rows.values()) for key in ("changes", "that matter", "noticed")}
    print(f"noticed {total['noticed']} of {total['that matter']} changes that matter")
    command = "python benchmarks/tamper.py " + " ".join(sys.argv[1:])
    harness.write(FILE, {"command": command.strip(), "total": total, "networks": rows})


def built(name: str) -> Net:
    """One of the tests' networks, or one of torchvision's with weights under which every layer moves the output."""
    if name in NETWORKS:
        return net(NETWORKS[name], n=1)
    module = torchvision.models.get_model(name, weights=None).eval()
    return load(networks.randomised(module, 0), inputs="1x3x64x64")


def tampered_with(dense: Net, each: int, seed: int) -> dict[str, Any]:
    """How many changes of a slim network matter, and how many of those verify notices."""
    found = trace(dense)
    removed = found.never_empty(np.arange(found.n_units) % 2 == 0)
    model = optimise(slim(found, removed))
    truth = Truth(model, dense, index_bounds(found))
    score: Counter[str] = Counter({"changes": 0, "that matter": 0, "noticed": 0, "false alarms": 0})
    missed = []
    for what, changed in tamperings(model, np.random.default_rng(seed), each):
        score["changes"] += 1
        matters, noticed = truth.changes(changed), False
        try:
            verify(found, removed, changed, runs=THOROUGH, prove=False, foreign=True)
        except SlimnetError:
            noticed = True
        score["that matter"] += matters
        score["noticed"] += matters and noticed
        if matters and not noticed:
            missed.append(what)
    if not verify(found, removed, model, runs=THOROUGH, prove=False, foreign=True).exact:
        score["false alarms"] += 1
    return {**score, "missed": missed}


if __name__ == "__main__":
    main()
