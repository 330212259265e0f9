"""Is the speedup that was asked for measured, and how much importance does it cost beside torch-pruning?

    python benchmarks/latency_targets.py [--only PATTERN] [--again | --peer] [--threads 2] [--seconds 8]

Every network is asked for 1.5x, 2x and 3x (l1 scores, batch 1). What is measured is measured anew, interleaved with the
dense network, after planning has ended (a speedup is the ratio of tenth percentiles). torch-pruning (MagnitudePruner,
p=1, `round_to=16`) prunes the same weights at a row of ratios, through the same export and optimiser; its importance is
read off between the two ratios whose measured speedups lie on either side of slimnet's. Importance is the sum of
slimnet's l1 scores of the channels that stay, normalised per group, over the same groups. Efficiency is latency speedup
over FLOPs speedup; "most" is what the widths would have that keep the most multiply-adds within the time, whatever
their importance, by the latency model. Convolutional networks are asked for 2x a second time with `--macs-weight 16`,
which puts multiply-adds first. Networks are in processes of their own. Needs the `bench` extra. Writes
results/latency_targets.json and latency_targets.md; latency_accuracy.py compares trained networks in accuracy.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from slimnet.graph.net import Net
    from slimnet.graph.units import Trace
    from slimnet.pipeline.search import LatencySearch, Problem, SearchResult

FILE = harness.RESULTS / "latency_targets.json"
ASKED = (1.5, 2.0, 3.0)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9)
CONVOLUTIONAL = (
    *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "regnet_y_400mf"),
    *("densenet121", "vgg16_bn"),
)
#: `--macs-weight` of the second plan for 2x of the convolutional networks.
CAPACITY = 16.0
INEXACT = "+allow-inexact"
NETWORKS = (
    *CONVOLUTIONAL,
    *("convnext_tiny", f"convnext_tiny{INEXACT}", "vit_b_16", f"vit_b_16{INEXACT}"),
)
#: A measured speedup this close to the asked one is a hit.
HIT = 0.05


def main() -> None:
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also networks that are in the table already")
    options.add_argument("--peer", action="store_true", help="only torch-pruning, beside targets in the table")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seconds", type=float, default=8.0, help="per network and measurement")
    options.add_argument("--timeout", type=float, default=3600, help="seconds per network")
    given = options.parse_args()
    for name in networks.select(dict.fromkeys(NETWORKS), given.only):  # type: ignore[arg-type]
        if "targets" in harness.read(FILE).get(name, {}) and not (given.again or given.peer):
            continue
        words = ["--one", str(given.threads), str(given.seconds), "peer" * given.peer, name]
        row = harness.run(Path(__file__), words, given.timeout)
        harness.write(FILE, harness.read(FILE) | {name: row})
        print(name, row, flush=True)
    report(harness.read(FILE))


# -- measuring -------------------------------------------------------------------------------------------------------


def measure(name: str, threads: int, seconds: float, only_peer: bool, out: Path) -> None:
    """All targets of one network, if they are not in the table to stay, then torch-pruning at all ratios."""
    import networks

    from slimnet.graph.trace import cuts
    from slimnet.io.load import load
    from slimnet.methods.criteria import score

    plain = name.removesuffix(INEXACT)
    network = networks.catalogue()[plain]
    module = networks.randomised(network.build(), 0).eval()
    net = load(module, inputs=network.spec)
    traces = cuts(net, allow_inexact=name.endswith(INEXACT))
    scored = [(traced, score("l1", traced.params(), traced.groups)) for traced in traces]
    before = harness.read(FILE).get(name, {})
    row: dict[str, Any] = {"threads": threads}
    kept = only_peer and "targets" in before
    plans = [(asked, 1.0) for asked in ASKED] + [(2.0, CAPACITY)] * (name in CONVOLUTIONAL)
    row["targets"] = before["targets"] if kept else targets(scored, plans, threads, seconds)
    harness.write(out, row)
    others = before.get("torch_pruning") if before.get("threads") == threads and not only_peer else None
    if others and {str(traced.prefer) for traced in traces} <= others[0]["importance"].keys():  # only slimnet changed
        return harness.write(out, row | {"torch_pruning": others})
    try:
        row["torch_pruning"] = peer(module, net, scored, network.input, threads, seconds)
    except Exception as error:
        row["torch_pruning_failed"] = f"{type(error).__name__}: {error}"[:200]
    return harness.write(out, row)


def targets(
    scored: Sequence[tuple[Trace, Any]], plans: Sequence[tuple[float, float]], threads: int, seconds: float
) -> list[dict[str, Any]]:
    """One row for every speedup asked and weight of multiply-adds, of the cut that the command would take."""
    from slimnet.common.clock import Clock
    from slimnet.pipeline.search import LatencySearch, Stopwatch, problem
    from slimnet.planning.target import Target
    from slimnet.runtime.onnxruntime import OnnxRuntime

    backend = OnnxRuntime(threads=threads)
    search, problems, rows = LatencySearch(lambda t: Stopwatch(t, backend)), [problem(*pair) for pair in scored], []
    fresh = Stopwatch(scored[0][0], backend, seconds)
    for asked, weight in plans:
        started, target = time.perf_counter(), Target("speedup", asked, best=True, macs_weight=weight)
        chosen = problems[search.best(problems, target, Clock())]
        traced, scores = chosen.trace, chosen.scores
        found = search.find(chosen, target, Clock())
        planned = time.perf_counter() - started
        flops = sum(traced.macs().values()) / sum(traced.macs(found.removed(traced, scores)).values())
        record = {key: found.record[key] for key in ("asked", "predicted", "importance", "model_error", "tries")}
        measured = fresh.speedup(chosen.slim(found.kept))
        floor = bool((found.kept == chosen.choices.fewest).all())
        most = measured / least_flops(chosen, search, found)
        rows.append({**record, "macs_weight": weight, "measured": measured, "flops": flops, "floor": floor,
                     "planning_s": round(planned, 1), "cut": traced.prefer, "most": most})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def least_flops(chosen: Problem, search: LatencySearch, found: SearchResult) -> float:
    """FLOPs speedup of the widths that keep the most multiply-adds and nothing else, as fast by the latency model."""
    from slimnet.common.clock import Clock

    indifferent = replace(chosen.choices, value=tuple(np.zeros(len(values)) for values in chosen.choices.value))
    latency, work = search.latency_model(chosen, Clock()).cost, chosen.choices.work
    kept = replace(chosen, choices=indifferent).solve(latency, latency.total(found.kept))
    return work.total(indifferent.most) / work.total(kept)


def peer(
    module: nn.Module, net: Net, scored: Sequence[tuple[Trace, Any]], shape: Sequence[int], threads: int, seconds: float
) -> list[dict[str, Any]]:
    """Speedup and importance that torch-pruning keeps, at each ratio; importance over the groups of every cut."""
    from slimnet.graph.optimise import optimise
    from slimnet.io.load import load
    from slimnet.pipeline.search import Stopwatch
    from slimnet.runtime.onnxruntime import OnnxRuntime

    watch, rows = Stopwatch(scored[0][0], OnnxRuntime(threads=threads), seconds), []
    for ratio in RATIOS:
        slim = torch_pruned(module, shape, ratio)
        small = load(slim, inputs="x".join(map(str, shape)))
        small.model.graph.inputs[0].name = net.model.graph.inputs[0].name
        speedup = watch.speedup(optimise(small.model))
        kept = {str(traced.prefer): importance(scores, stays(traced, module, slim)) for traced, scores in scored}
        rows.append({"ratio": ratio, "speedup": speedup, "importance": kept})
        print(rows[-1], flush=True)
        if speedup > 1.2 * max(ASKED):
            break
    return rows


def torch_pruned(module: nn.Module, shape: Sequence[int], ratio: float) -> nn.Module:
    """A pruned copy of a module."""
    import torch
    import torch_pruning
    from peers import classifiers

    slim = copy.deepcopy(module)
    pruner = torch_pruning.pruner.MagnitudePruner(
        slim,
        torch.randn(*shape),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=ratio,
        ignored_layers=classifiers(slim),
        round_to=16,
    )
    pruner.step()
    return slim


def importance(scores: Any, kept: Sequence[np.ndarray]) -> float:
    """Mean over the groups of the fraction of their scores that belongs to units that are kept."""
    return float(np.mean([values[k].sum() / values.sum() for values, k in zip(scores, kept, strict=True)]))


def stays(traced: Trace, dense: nn.Module, slim: nn.Module) -> list[np.ndarray]:
    """For each group, which of its units a pruned module still has."""
    from slimnet.graph.parameters import Role

    before, after = ({n: p.detach().numpy() for n, p in m.named_parameters()} for m in (dense, slim))
    found = []
    for group in traced.groups:
        members = [m for m in group.members if m.role & (Role.OUT | Role.ALONG) and m.tensor in before]
        member = min(members, key=lambda m: before[m.tensor].size)  # often a bias: its values differ too
        kept = kept_on(before[member.tensor], after[member.tensor], member.axis)
        found.append(np.isin(member.index, kept).all(axis=1))
    return found


def kept_on(dense: np.ndarray, slim: np.ndarray, axis: int) -> np.ndarray:
    """Indices of an axis that are still there, read off the values, of which nearly every one occurs once."""
    if dense.shape[axis] == slim.shape[axis]:
        return np.arange(dense.shape[axis])
    order = np.argsort(dense, axis=None)
    place = np.searchsorted(dense.ravel()[order], slim.ravel()).clip(max=dense.size - 1)
    found = np.unravel_index(order[place], dense.shape)[axis].reshape(slim.shape)
    lines = np.moveaxis(found, axis, 0).reshape(slim.shape[axis], -1)
    return np.median(lines, axis=1).astype(int)


# -- the table -------------------------------------------------------------------------------------------------------


def at_speedup(rows: Sequence[Mapping[str, Any]], speedup: float, cut: str | None) -> float | None:
    """torch-pruning's importance at a speedup, on the line between the measured ones on either side."""
    points = sorted((math.log(row["speedup"]), row["importance"][str(cut)]) for row in rows)
    # One that is slower and keeps less is nobody's choice.
    best = [(x, max(y for other, y in points if other >= x)) for x, _ in points]
    best = [(0.0, 1.0), *(point for point in best if point[0] > 0)]
    if math.log(speedup) > best[-1][0]:
        return None
    return float(np.interp(math.log(speedup), [x for x, _ in best], [y for _, y in best]))


def report(table: Mapping[str, Any]) -> None:
    """Write results/latency_targets.md."""
    rows: dict[float, list[list[Any]]] = {1.0: [], CAPACITY: []}
    efficiencies: dict[float, list[float]] = {1.0: [], CAPACITY: []}
    hits, better, compared, most = 0, 0, 0, []
    for name, found in table.items():
        for row in found.get("targets", []):
            weight, others = row["macs_weight"], found.get("torch_pruning")
            other = at_speedup(others, row["measured"], row["cut"]) if others else None
            rows[weight].append(_cells(name, row, other))
            hits += abs(row["measured"] / row["asked"] - 1) <= HIT
            compared += other is not None and weight == 1
            better += other is not None and weight == 1 and row["importance"] > other
            if row["asked"] == 2 and name in CONVOLUTIONAL:
                efficiencies[weight].append(row["measured"] / row["flops"])
                most += [row["most"]] * (weight == 1)
    columns = ["network", "asked", "measured", "off", "FLOPs speedup", "efficiency", "most", "importance",
               "torch-pruning", "model error", "tries", "planning s"]  # fmt: skip
    plain, capacity, limit = (
        f"{math.exp(np.mean(np.log(part))):.2f}" if part else "unknown" for part in (*efficiencies.values(), most)
    )
    about = __doc__.split("\n\n", 2)[2].strip()
    text = "# Speedups asked for\n\n`python benchmarks/latency_targets.py`; "
    text += f"{harness.versions('torch', 'torchvision', 'onnxruntime', 'torch-pruning')}.\n\n{about}\n\n"
    text += f"{hits} of {sum(map(len, rows.values()))} within {HIT:.0%}. Efficiency at 2x over the convolutional "
    text += f"networks: {plain} in the geometric mean, {capacity} with `--macs-weight {CAPACITY:g}` (at most {limit}). "
    text += f"More importance kept than torch-pruning at the same latency: {better} of {compared}.\n\n"
    failed = {name: found.get("failed") or found.get("torch_pruning_failed") for name, found in table.items()}
    text += "".join(f"- {name}: {why}\n" for name, why in failed.items() if why)
    text += f"\n{harness.markdown(columns, rows[1.0])}"
    text += f"\nWith `--macs-weight {CAPACITY:g}`:\n\n{harness.markdown(columns, rows[CAPACITY])}"
    (harness.RESULTS / "latency_targets.md").write_text(text)


def _cells(name: str, row: Mapping[str, Any], other: float | None) -> list[Any]:
    measured = f"{row['measured']:.2f}x" + (" (the floor)" if row["floor"] else "")
    error = f"{row['model_error']['total']:.1%}" if row["model_error"] else None
    return [
        name,
        f"{row['asked']:g}x",
        measured,
        f"{row['measured'] / row['asked'] - 1:+.1%}",
        f"{row['flops']:.2f}x",
        f"{row['measured'] / row['flops']:.2f}",
        f"{row['most']:.2f}",
        row["importance"],
        other,
        error,
        len(row["tries"]),
        f"{row['planning_s']:.0f}",
    ]


if __name__ == "__main__":
    if "--one" in sys.argv:
        threads, seconds, only_peer, name, out = sys.argv[-5:]
        measure(name, int(threads), float(seconds), bool(only_peer), Path(out))
    else:
        main()
