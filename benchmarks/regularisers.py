"""One regulariser step (penalty and gradient of all groups) beside torch-pruning's, interleaved in one process.

    python benchmarks/regularisers.py [--threads 2] [--repeats 30]

Writes results/regularisers.json and results/regularisers.md. Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch_pruning
from harness import markdown, versions, write
from peers import classifiers
from torch import nn

import slimnet
from slimnet.io.torch_arch import build
from slimnet.methods import create

NETWORKS = {"torchvision:resnet50": (1, 3, 224, 224), "models:resnet56": (1, 3, 32, 32)}
#: Milliseconds a slimnet step may take.
TO_REACH = {"torchvision:resnet50": 40.0, "models:resnet56": 4.0}
METHODS = ("group-hs", "group-lasso", "greg-1")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = {arch: measure(arch, shape, options.repeats) for arch, shape in NETWORKS.items()}
    about = versions("torch", "torchvision", "torch-pruning")
    write(RESULTS / "regularisers.json", {"threads": options.threads, "versions": about, "ms": rows})
    columns = ["network", *next(iter(rows.values())), "to reach"]
    table = markdown(
        columns, [[arch, *(f"{ms:.1f}" for ms in row.values()), TO_REACH[arch]] for arch, row in rows.items()]
    )
    text = f"# Regulariser steps\n\n`python benchmarks/regularisers.py --threads {options.threads}`; {about}.\n\n"
    text += f"Median milliseconds of {options.repeats} interleaved steps.\n\n{table}\n"
    (RESULTS / "regularisers.md").write_text(text, encoding="utf-8")
    print(text)


def measure(arch: str, shape: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Median milliseconds of every step."""
    steps = {**ours(arch, shape), **theirs(arch, shape)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(values[3:]) for name, values in times.items()}


def ours(arch: str, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """`after_backward` of slimnet's methods."""
    module = with_gradients(arch)
    trace = slimnet.trace(slimnet.load(module, inputs=shape))
    params = dict(module.named_parameters())
    return {f"slimnet {name}": create(name, trace.groups, params).after_backward for name in METHODS}


def theirs(arch: str, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """`regularize` of torch-pruning's pruners."""
    steps: dict[str, Callable[[], Any]] = {}
    for kind in ("GroupNormPruner", "GrowingRegPruner"):
        module = with_gradients(arch)
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        pruner = getattr(torch_pruning.pruner, kind)(
            module, torch.zeros(shape), importance, pruning_ratio=0.5, ignored_layers=classifiers(module)
        )
        for prepare in ("update_regularizer", "update_reg"):
            getattr(pruner, prepare, lambda: None)()
        steps[f"torch-pruning {kind}"] = lambda pruner=pruner, module=module: pruner.regularize(module)
    return steps


def with_gradients(arch: str) -> nn.Module:
    module = build(arch).eval()
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    return module


if __name__ == "__main__":
    main()
