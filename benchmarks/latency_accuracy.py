"""Accuracy at the same measured speedup: slimnet's plans and torch-pruning's, after the same fine-tuning.

    python benchmarks/latency_accuracy.py models/digits_resnet.pt digits --weights 1 --seeds 2
    slimnet train --arch models:cnn --data "imagefolder:DIR?limit=10000&val=1000" -o cnn_cifar.pt --epochs 12 \\
        --lr 0.05 --batch-size 100 --train precision=bf16 --train channels_last=true    # CIFAR-10 as JPEG
    python benchmarks/latency_accuracy.py cnn_cifar.pt "imagefolder:DIR?limit=10000&val=1000" --asked 2,3 \\
        --weights 1,4,8

A trained network is asked for each speedup (l1 scores, batch 1), once with every `--macs-weight`. torch-pruning
(MagnitudePruner, p=1, `round_to=16`) prunes the same weights at a row of ratios; of those that are as fast as slimnet's
first plan the one with the most importance is taken, its channels removed by slimnet. Then every network is fine-tuned
with each seed, alike. Accuracy is that of the exported networks on the test split: mean and standard deviation. Adds to
results/latency_accuracy.json and writes latency_accuracy.md. Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness
import numpy as np
from latency_targets import importance, stays, torch_pruned

from slimnet.common.clock import Clock
from slimnet.data.load import Data, load_data
from slimnet.graph.optimise import optimise
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.load import load
from slimnet.methods.criteria import score
from slimnet.pipeline.config import FINETUNE, SPARSIFY, RunConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.pipeline.export import carry_out
from slimnet.pipeline.search import LatencySearch, Problem, Stopwatch, problem
from slimnet.pipeline.training import Training
from slimnet.planning.target import Target
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.training.phase import phase

FILE = harness.RESULTS / "latency_accuracy.json"
RATIOS = np.arange(0.05, 0.95, 0.05)
EPOCHS = 10
#: A row of the table, and the units that its network loses.
Pruned = tuple[harness.Row, np.ndarray]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("checkpoint", type=Path, help="a trained network that names its architecture")
    options.add_argument("data")
    options.add_argument("--asked", default="1.5,2,3", help="speedups")
    options.add_argument("--weights", default="1,4,16", help="of multiply-adds, as in --macs-weight")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seconds", type=float, default=5.0, help="per network and measurement")
    given = options.parse_args()
    net = load(given.checkpoint)
    traced = trace(net)
    chosen = problem(traced, score("l1", traced.params(), traced.groups))
    asked, weights = ([float(word) for word in text.split(",")] for text in (given.asked, given.weights))
    watch, data = Stopwatch(traced, OnnxRuntime(threads=given.threads), given.seconds), load_data(given.data)
    pruned = list(at_speedups(chosen, watch, asked, weights))
    for seed in range(given.seeds):
        for row, removed in pruned:
            row["accuracy"].append(finetuned(traced, removed, data, seed))
            print(row, flush=True)
            found = {"threads": given.threads, "epochs": EPOCHS, "rows": [row for row, _ in pruned]}
            harness.write(FILE, harness.read(FILE) | {given.checkpoint.stem: found})
    report(harness.read(FILE))


def at_speedups(
    chosen: Problem, watch: Stopwatch, asked: Sequence[float], weights: Sequence[float]
) -> Iterator[Pruned]:
    """The networks of both tools that are so fast."""
    search, others = LatencySearch(lambda _: watch), list(peers(chosen, watch))
    for speedup in asked:
        for weight in weights:
            found = search.find(chosen, Target("speedup", speedup, best=True, macs_weight=weight), Clock())
            removed = found.removed(chosen.trace, chosen.scores)
            tool = f"slimnet --macs-weight {weight:g}"
            yield _row(chosen, tool, speedup, found.record["measured"], found.record["importance"], removed)
            if weight == weights[0]:
                fast = [peer for peer in others if peer[0] >= 0.97 * found.record["measured"]]
                other = max(fast, key=lambda peer: peer[1]) if fast else max(others, key=lambda peer: peer[0])
        yield _row(chosen, "torch-pruning", speedup, *other)


def peers(chosen: Problem, watch: Stopwatch) -> Iterator[tuple[float, float, np.ndarray]]:
    """torch-pruning's networks: speedup, importance kept, and the units they lack."""
    traced, before = chosen.trace, None
    module = traced.net.torch.module  # type: ignore[union-attr]
    for ratio in RATIOS:
        kept = stays(traced, module, torch_pruned(module, next(iter(traced.net.inputs.values())), float(ratio)))
        removed = np.ones(traced.n_units, bool)
        for group, k in zip(traced.groups, kept, strict=True):
            removed[group.units[k]] = False
        if before is None or (removed != before).any():
            yield watch.speedup(optimise(slim(traced, removed))), importance(chosen.scores, kept), removed
        before = removed


def _row(chosen: Problem, tool: str, asked: float, speedup: float, importance: float, removed: np.ndarray) -> Pruned:
    flops = sum(chosen.trace.macs().values()) / sum(chosen.trace.macs(removed).values())
    row = {"asked": asked, "network": tool, "speedup": speedup, "flops": flops, "importance": importance}
    print(row, flush=True)
    return {**row, "accuracy": []}, removed


def finetuned(traced: Trace, removed: np.ndarray, data: Data, seed: int) -> float:
    """Test accuracy after fine-tuning the network without some units."""
    settings = phase(FINETUNE, epochs=EPOCHS, precision="bf16", channels_last=True, seed=seed)
    training = Training(data=data, sparsify=SPARSIFY, finetune=settings)
    decision = PruningDecision(traced=traced, removed=removed, provenance={})
    report = carry_out(decision, RunConfig(bench_seconds=0, prove=False, data=data), Clock(), training)
    return float(report.content["accuracy"]["after"])


def report(table: harness.Row) -> None:
    """Write results/latency_accuracy.md."""
    columns = ["network", "asked", "pruned by", "speedup", "FLOPs speedup", "importance", "accuracy", "std", "seeds"]
    rows = [[name, *_cells(row)] for name, found in table.items() for row in found["rows"]]
    about = __doc__.rsplit("\n\n", 1)[1].strip()
    text = "# Accuracy at the same speedup\n\n`python benchmarks/latency_accuracy.py`; "
    text += f"{harness.versions('torch', 'onnxruntime', 'torch-pruning')}.\n\n{about} {EPOCHS} epochs in bfloat16.\n\n"
    (harness.RESULTS / "latency_accuracy.md").write_text(text + harness.markdown(columns, rows))


def _cells(row: harness.Row) -> list[object]:
    accuracy = row["accuracy"]
    std = f"{np.std(accuracy, ddof=1):.1%}" if len(accuracy) > 1 else None
    speedups = [f"{row[key]:.2f}x" for key in ("speedup", "flops")]
    return [
        f"{row['asked']:g}x",
        row["network"],
        *speedups,
        row["importance"],
        f"{np.mean(accuracy):.1%}",
        std,
        len(accuracy),
    ]


if __name__ == "__main__":
    main()
