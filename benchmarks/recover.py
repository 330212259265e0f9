"""Recovery without labels: accuracy as cut and with fitted weights, over seeds of calibration draws, and what it takes.

    python benchmarks/recover.py [--only PATTERN] [--again] [--cifar DIR] [--weights DIR] [--seeds 3]

DIR of --cifar holds train/ and test/ with a folder of pictures for each class, that of --weights the published weights
of ResNet-20 and ResNet-56 (`resnet20-*.th`); without them those rows are left out. Calibration inputs are drawn from
the training split, and the test split is looked at once, for these numbers. `time` rows fit networks with random
weights to random pictures in a process of their own: seconds and the peak of its memory.
Writes results/recover.json, row by row, and the table results/recover.md.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import harness
import numpy as np

FILE = harness.RESULTS / "recover.json"
#: A row: the network, what is asked for, by which criterion, whether residual streams are cut, and inputs.
CASES: dict[str, dict[str, Any]] = {
    "digits ratio 0.5 by l1": {"net": "digits", "asked": {"ratio": 0.5}, "method": "l1", "inputs": 64},
    "digits ratio 0.75 by l1": {"net": "digits", "asked": {"ratio": 0.75}, "method": "l1", "inputs": 256},
    "digits ratio 0.75 by obs": {"net": "digits", "asked": {"ratio": 0.75}, "method": "obs", "inputs": 256},
    "ResNet-20 1.7x MACs by l1": {"net": "resnet20", "asked": {"macs": 1 / 1.7}, "method": "l1", "inputs": 512},
    "ResNet-20 1.7x MACs by obs": {"net": "resnet20", "asked": {"macs": 1 / 1.7}, "method": "obs", "inputs": 512},
    "ResNet-20 2x MACs by obs": {"net": "resnet20", "asked": {"macs": 0.5}, "method": "obs", "inputs": 1024},
    "ResNet-56 2x MACs by obs": {"net": "resnet56", "asked": {"macs": 0.5}, "method": "obs", "inputs": 1024},
}
TIMED = {
    "time of ResNet-50 at ratio 0.3 with 128 inputs": "resnet50",
    "time of MobileNetV2 at ratio 0.3 with 128 inputs": "mobilenet_v2",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also rows that are in the table already")
    options.add_argument("--cifar", help="a folder with train/ and test/")
    options.add_argument("--weights", type=Path, help="the folder of the published weights")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--timed", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.timed:
        timed(given.timed[0], Path(given.timed[1]))
        return
    rows = harness.read(FILE)
    datasets: dict[str, Any] = {}
    for name, case in CASES.items():
        needs_cifar = case["net"] != "digits"
        if not asked(name, given, rows) or (needs_cifar and not given.cifar):
            continue
        spec = f"imagefolder:{given.cifar}" if needs_cifar else "digits"
        if spec not in datasets:
            from slimnet.data.load import load_data

            datasets[spec] = load_data(spec)
        rows[name] = measured(case, datasets[spec], given.weights, given.seeds)
        harness.write(FILE, rows)
        print(name, rows[name], flush=True)
    for name, network in TIMED.items():
        if asked(name, given, rows):
            rows[name] = harness.run(Path(__file__), ["--timed", network], 1800)
            harness.write(FILE, rows)
            print(name, rows[name], flush=True)
    write_table(rows)


def asked(name: str, given: argparse.Namespace, rows: dict[str, Any]) -> bool:
    """Whether a row is to be measured now."""
    wanted = given.only is None or any(fnmatch(name, part) for part in given.only.split(","))
    return wanted and (given.again or name not in rows)


def measured(case: dict[str, Any], data: Any, weights: Path | None, seeds: int) -> dict[str, Any]:
    """One row: accuracies over seeds of the inputs that are drawn."""
    from slimnet import PruneConfig, RunConfig, prune
    from slimnet.io.load import load
    from slimnet.pipeline.recover import feeds_of

    if case["net"] == "digits":
        net = load(Path(__file__).resolve().parents[1] / "models" / "digits_resnet.pt")
    else:
        assert weights is not None, "give --weights"
        (file,) = weights.glob(f"{case['net']}-*.th")
        net = load(file, f"models:{case['net']}", ["1x3x32x32"])
    found = []
    for seed in range(seeds):
        index = np.random.default_rng(seed).permutation(len(data.train))[: case["inputs"]]
        config = PruneConfig(method=case["method"], round_to=None, **case["asked"])
        run = RunConfig(data=data, calib=feeds_of(net, data.train.take(index)), bench_seconds=0, prove=False)
        report = prune(net, config, run).content
        found.append({
            "macs": report["macs"]["before"] / report["macs"]["after"], **report["accuracy"],
            "agreement": report["recovery"]["recovered"], "seconds": report["timing_s"]["recover"],
        })  # fmt: skip
    after = [row["after"] for row in found]
    return {"inputs": case["inputs"], "macs": mean(row["macs"] for row in found), "dense": found[0]["before"],
            "cut": mean(row["pruned"] for row in found), "recovered": mean(after),
            "std": stdev(after) if len(after) > 1 else None, "seconds": mean(row["seconds"] for row in found),
            "seeds": found}  # fmt: skip


def timed(network: str, out: Path) -> None:
    """What fitting a network to 128 pictures takes."""
    import torch
    import torchvision

    from slimnet import PruneConfig, RunConfig, load, prune

    torch.manual_seed(0)
    net = load(getattr(torchvision.models, network)().eval(), inputs="1x3x224x224")
    rng = np.random.default_rng(0)
    feeds = [{name: rng.standard_normal(shape).astype(np.float32) for name, shape in net.inputs.items()}
             for _ in range(128)]  # fmt: skip
    report = prune(net, PruneConfig(ratio=0.3), RunConfig(calib=feeds, bench_seconds=0, prove=False)).content
    found = report["recovery"]
    harness.write(out, {"recovery_s": report["timing_s"]["recover"], "pruned": found["pruned"],
                        "recovered": found["recovered"]})  # fmt: skip


def write_table(rows: dict[str, Any]) -> None:
    steps = ("dense", "cut", "recovered")
    fitted = [
        [name, row["inputs"], f"{row['macs']:.2f}x", *(f"{100 * row[step]:.2f} %" for step in steps),
         None if row["std"] is None else f"{100 * row['std']:.2f}", f"{row['seconds']:.1f}"]
        for name, row in rows.items() if "cut" in row
    ]  # fmt: skip
    took = [[name, f"{row['recovery_s']:.0f}", row["peak_gib"]] for name, row in rows.items() if "recovery_s" in row]
    FILE.with_suffix(".md").write_text(
        "# Recovery without labels\n\n    python benchmarks/recover.py --cifar DIR --weights DIR\n\n"
        "Test accuracy, means over the seeds of the inputs that are drawn.\n\n"
        + harness.markdown(["case", "inputs", "MACs", "dense", "as cut", "recovered", "std", "seconds"], fitted)
        + "\n"
        + harness.markdown(["case", "seconds of recovery", "peak of memory, GiB"], took)
    )


if __name__ == "__main__":
    main()
