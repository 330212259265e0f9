"""Time trace, score, plan and slim: medians of five warm repetitions, each network in a process of its own.

    python benchmarks/speed.py [--only PATTERN] [--again] [--folder EXPORTED] [--timeout 600]

Weights play no part here, so networks are as built. `--folder` has NAME.onnx files that save exporting them.
Writes results/speed.json and the table results/speed.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

import harness
from coverage import STEPS, prune

FILE = harness.RESULTS / "speed.json"
REPEATS = 5
#: Networks with more parameters may take longer.
LARGE = 200e6


def main() -> None:
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also networks that are in the table already")
    options.add_argument("--folder", default="", help="folder of exported networks, NAME.onnx")
    options.add_argument("--timeout", type=float, default=600, help="seconds per network")
    given = options.parse_args()
    catalogue = networks.catalogue()
    for name in networks.select(catalogue, given.only):
        if name in harness.read(FILE) and not given.again:
            continue
        row = harness.run(Path(__file__), ["--one", given.folder, name], given.timeout)
        harness.write(FILE, harness.read(FILE) | {name: row | {"kind": catalogue[name].kind}})
        print(name, row, flush=True)
    report(harness.read(FILE))


def measure(folder: str, name: str, out: Path) -> None:
    """Time one network."""
    from slimnet.io import load

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
    harness.write(out, {"params": params, "nodes": len(net.model.graph), "times": times})


def report(table: dict[str, Any]) -> None:
    """Write results/speed.md."""
    done = {name: row for name, row in table.items() if "times" in row}
    totals = {name: sum(row["times"].values()) for name, row in done.items()}
    small = {name: total for name, total in totals.items() if done[name]["params"] < LARGE}
    large = {name: total for name, total in totals.items() if name not in small}
    text = "# Speed\n\n`python benchmarks/speed.py`; "
    text += f"{harness.versions('torch', 'torchvision', 'onnx', 'onnx-ir')}.\n\n{__doc__.splitlines()[0]}\n\n"
    text += f"Median of all: {median(totals.values()):.3f} s."
    for title, part in (("Worst below 200 M parameters", small), ("Worst above", large)):
        if part:
            worst = max(part, key=part.__getitem__)
            text += f" {title}: {part[worst]:.2f} s ({worst})."
    rows = [
        [name, f"{row['params'] / 1e6:.1f}", row["nodes"], *(row["times"][s] for s in STEPS), totals[name]]
        for name, row in done.items()
    ]
    columns = ["network", "M params", "nodes", *(f"{step} s" for step in STEPS), "total s"]
    (harness.RESULTS / "speed.md").write_text(f"{text}\n\n{harness.markdown(columns, rows)}")


if __name__ == "__main__":
    if "--one" in sys.argv:
        measure(sys.argv[-3], sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
