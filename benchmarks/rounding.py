"""Does rounding pay? Latency at the same ratio with and without it, beside torch-pruning's `round_to=16`.

    python benchmarks/rounding.py [--threads 2] [--seconds 60]

All five models of a network are timed interleaved in one process, so their ratios hold on a noisy machine. Writes
results/rounding.json and results/rounding.md. Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
import torchvision
from harness import markdown, versions, write
from peers import classifiers

import slimnet
from slimnet.graph.optimise import optimise
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing.latency import compare

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
RATIO = 0.45
#: Latency speedup of torch-pruning with `round_to=16` that the design quotes.
TO_REACH = {"resnet18": 4.54, "resnet50": 2.43, "mobilenet_v2": 3.35}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="per network")
    options = parser.parse_args()
    rows = {name: measure(name, options.threads, options.seconds) for name in NETWORKS}
    about = versions("torch", "torchvision", "onnxruntime", "torch-pruning")
    write(RESULTS / "rounding.json", {"ratio": RATIO, "threads": options.threads, "versions": about, "networks": rows})
    (RESULTS / "rounding.md").write_text(table(rows, about, options.threads), encoding="utf-8")
    print((RESULTS / "rounding.md").read_text(encoding="utf-8"))


def measure(name: str, threads: int, seconds: float) -> dict[str, Any]:
    """Parameters left and latency speedup of every variant."""
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    net = slimnet.load(module, inputs="1x3x224x224")
    trace = slimnet.trace(net)
    models = {"dense": optimise(net.model)}
    left: dict[str, float] = {}
    for variant, rounding in (("slimnet none", None), ("slimnet auto", "auto")):
        plan = slimnet.plan(trace, ratio=RATIO, round_to=rounding)
        models[variant] = optimise(slimnet.slim(trace, plan))
        left[variant] = trace.parameters(trace.removed(plan)) / trace.parameters()
    for variant, rounding in (("torch-pruning", None), ("torch-pruning round_to=16", 16)):
        models[variant], left[variant] = torch_pruned(name, rounding)
    names = {variant: _renamed(model) for variant, model in models.items()}
    feed, backend = random_inputs(names["dense"], {"x": (1, 3, 224, 224)}), OnnxRuntime(threads=threads)
    timed = compare(names, feed, backend, 50, seconds, tight=0.005)
    out: dict[str, Any] = {"dense_ms": timed.timing("dense").median}
    for variant in left:
        ratio = timed.ratio("dense", to=variant)
        out[variant] = {"left": left[variant], "speedup": ratio.value, "interval": [ratio.low, ratio.high]}
    print(name, out, flush=True)
    return out


def torch_pruned(name: str, round_to: int | None) -> tuple[ir.Model, float]:
    """The network after torch-pruning, through the same export and optimiser, and its parameters left."""
    import torch_pruning

    torch.manual_seed(0)
    module = torchvision.models.get_model(name, weights=None).eval()
    before = sum(p.numel() for p in module.parameters())
    pruner = torch_pruning.pruner.MagnitudePruner(
        module,
        torch.randn(1, 3, 224, 224),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=RATIO,
        ignored_layers=classifiers(module),
        round_to=round_to,
    )
    pruner.step()
    net = slimnet.load(module, inputs="1x3x224x224")
    return optimise(net.model), sum(p.numel() for p in module.parameters()) / before


def _renamed(model: ir.Model) -> ir.Model:
    """All variants take one input, under one name."""
    model.graph.inputs[0].name = "x"
    return model


def table(rows: dict[str, dict[str, Any]], about: str, threads: int) -> str:
    variants = [v for v in rows[NETWORKS[0]] if v != "dense_ms"]
    cells = [
        [name, f"{row['dense_ms']:.1f}"]
        + [f"{row[v]['speedup']:.2f}x at {row[v]['left']:.1%}" for v in variants]
        + [f"{TO_REACH[name]:.2f}x"]
        for name, row in rows.items()
    ]
    head = f"# Rounding\n\n`python benchmarks/rounding.py --threads {threads}`; {about}. Ratio {RATIO}; latency "
    head += "speedup at parameters left, all variants of a network interleaved in one run.\n\n"
    return head + markdown(["network", "dense ms", *variants, "to reach"], cells) + "\n"


if __name__ == "__main__":
    main()
