"""Time trace, score, plan and slim: medians of five warm repetitions, each network in a process of its own.

    python benchmarks/speed.py [--only PATTERN] [--again] [--peer] [--folder EXPORTED] [--timeout 600]

Warm means that a process keeps the memory it has used: on a virtual machine new pages can take longer than the work.
Weights play no part here, so networks are as built. `--folder` has NAME.onnx files that save exporting them. `--peer`
prunes each network with torch-pruning too, once, right after: seconds depend on what else a machine does, their ratio
less. Writes results/speed.json and the table results/speed.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import harness
from coverage import STEPS, prune

FILE = harness.RESULTS / "speed.json"
REPEATS = 5
#: Settings of glibc's malloc for a process that keeps its memory.
WARM = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
#: Networks with more parameters may take longer.
LARGE = 200e6


def main() -> None:
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also networks that are in the table already")
    options.add_argument("--peer", action="store_true", help="time torch-pruning too")
    options.add_argument("--folder", default="", help="folder of exported networks, NAME.onnx")
    options.add_argument("--timeout", type=float, default=600, help="seconds per network")
    given = options.parse_args()
    catalogue = networks.catalogue()
    for name in networks.select(catalogue, given.only):
        if name in harness.read(FILE) and not given.again:
            continue
        row = harness.run(Path(__file__), ["--one", given.folder, "peer" * given.peer, name], given.timeout, WARM)
        harness.write(FILE, harness.read(FILE) | {name: row | {"kind": catalogue[name].kind}})
        print(name, row, flush=True)
    report(harness.read(FILE))


def measure(folder: str, peer: bool, name: str, out: Path) -> None:
    """Time one network."""
    from slimnet.io.load import load

    exported = Path(folder) / f"{name}.onnx"
    if folder and exported.exists():
        net = load(exported)
    else:
        import networks

        network = networks.catalogue()[name]
        built = network.build()
        net = load(built) if isinstance(built, Path) else load(built, inputs=network.spec)
    _, _, times = prune(net, False, REPEATS)
    params = sum(v.const_value.size for v in net.model.graph.initializers.values() if v.const_value is not None)
    row = {"params": params, "nodes": len(net.model.graph), "times": times}
    harness.write(out, row)
    if peer:
        harness.write(out, row | {"torch_pruning": torch_pruning(name)})


def torch_pruning(name: str) -> float | None:
    """Seconds that torch-pruning takes for the same, once it is warm; None if it fails."""
    import networks
    import peers
    import torch

    peers.magnitude_pruner(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 10)), torch.ones(1, 4)).step()
    network = networks.catalogue()[name]
    module = network.build()
    if isinstance(module, Path):
        return None
    example = peers.example(network)
    started = time.perf_counter()
    try:
        peers.magnitude_pruner(module.eval(), example).step()
    except Exception:  # whatever it raises
        return None
    return round(time.perf_counter() - started, 4)


def report(table: dict[str, Any]) -> None:
    """Write results/speed.md."""
    done = {name: row for name, row in table.items() if "times" in row}
    totals = {name: sum(row["times"].values()) for name, row in done.items()}
    small = {name: total for name, total in totals.items() if done[name]["params"] < LARGE}
    large = {name: total for name, total in totals.items() if name not in small}
    text = "# Speed\n\n`python benchmarks/speed.py`; "
    text += f"{harness.versions('torch', 'torchvision', 'onnx', 'onnx-ir')}.\n\n{__doc__.splitlines()[0]}\n\n"
    text += f"Median of all: {median(totals.values()):.3f} s"
    classifiers = [total for name, total in totals.items() if done[name]["kind"] == "classification"]
    if classifiers:
        text += f"; of the {len(classifiers)} classification networks of torchvision: {median(classifiers):.3f} s"
    text += "."
    for title, part in (("Worst below 200 M parameters", small), ("Worst above", large)):
        if part:
            worst = max(part, key=part.__getitem__)
            text += f" {title}: {part[worst]:.2f} s ({worst})."
    other = {name: row["torch_pruning"] for name, row in done.items() if row.get("torch_pruning")}
    if other:
        ratio = median(other[name] / totals[name] for name in other)
        text += f" torch-pruning, in the same run: {median(other.values()):.3f} s over the {len(other)} it can prune, "
        text += f"{ratio:.1f} times as long in the median."
    rows = [
        [name, f"{row['params'] / 1e6:.1f}", row["nodes"], *(row["times"][s] for s in STEPS), totals[name],
         other.get(name, "")]
        for name, row in done.items()
    ]  # fmt: skip
    columns = ["network", "M params", "nodes", *(f"{step} s" for step in STEPS), "total s", "torch-pruning s"]
    (harness.RESULTS / "speed.md").write_text(f"{text}\n\n{harness.markdown(columns, rows)}")


if __name__ == "__main__":
    if "--one" in sys.argv:
        measure(sys.argv[-4], bool(sys.argv[-3]), sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
