"""What torch-pruning leaves of every torchvision network: the yardstick of coverage.py.

python benchmarks/torch_pruning_left.py [--only PATTERN] [--again] [--timeout 240]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import harness

FILE = harness.RESULTS / "torch_pruning.json"


def main() -> None:
    """Fill in what is missing in results/torch_pruning.json."""
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also networks that are in the file")
    options.add_argument("--timeout", type=float, default=240, help="seconds per network")
    given = options.parse_args()
    for name in networks.select(networks.catalogue(), given.only):
        table = harness.read(FILE)
        if name.startswith("light_") or (name in table and not given.again):
            continue
        row = harness.run(Path(__file__), ["--one", name], given.timeout)
        harness.write(FILE, harness.read(FILE) | {name: row})
        print(name, row, flush=True)


def prune(name: str, out: Path) -> None:
    import networks
    import peers
    import torch

    network = networks.catalogue()[name]
    module = network.build().eval()
    example = peers.example(network)
    before = peers.parameters(module)
    started = time.perf_counter()
    peers.magnitude_pruner(module, example).step()
    inner = time.perf_counter() - started
    row = {"left": round(peers.parameters(module) / before, 4), "inner_s": round(inner, 2)}
    harness.write(out, row | {"failed": "the pruned module's forward raises"})
    with torch.no_grad():
        module(example)
    harness.write(out, row)


if __name__ == "__main__":
    if "--one" in sys.argv:
        prune(sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
