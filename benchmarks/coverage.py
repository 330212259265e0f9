"""Walk networks: is the slim one exact, is that proven, how many parameters are left, what stays and why.

    python benchmarks/coverage.py [--only PATTERN] [--again] [--timeout 1200]

Every network gets weights under which all its layers move the output, half of the channels of every group go by their
l1 norm without rounding, and the result is compared with the masked network, with a proof for each group that a
difference would have shown. Where inexact removal lets more go, as with layer norm, networks are walked a second time
with it. Needs the `bench` extra.
Writes results/coverage.json, row by row, and the table results/coverage.md.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import harness

FILE = harness.RESULTS / "coverage.json"
RATIO = 0.5
REPEATS = 3
#: Parameters left may exceed torch-pruning's by this much.
MARGIN = 0.03
STEPS = ("trace", "score", "plan", "slim")


def main() -> None:
    import networks

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", help="names, as comma-separated shell patterns")
    options.add_argument("--again", action="store_true", help="also networks that are in the table already")
    options.add_argument("--timeout", type=float, default=1200, help="seconds per network")
    given = options.parse_args()
    catalogue = networks.catalogue(everything=True)
    names = networks.select(catalogue, given.only)
    for done, name in enumerate(names, 1):
        if name in harness.read(FILE) and not given.again:
            continue
        row = {"kind": catalogue[name].kind, **harness.run(Path(__file__), ["--one", name], given.timeout)}
        harness.write(FILE, harness.read(FILE) | {name: row})
        print(f"{done}/{len(names)} {name}: {_line(row)}", flush=True)
    report(harness.read(FILE))


def examine(name: str, out: Path) -> None:
    """Measure one network and write its row."""
    import networks

    network = networks.catalogue(everything=True)[name]
    started = time.perf_counter()
    net = networks.prepared(network)
    row: dict[str, Any] = {"kind": network.kind, "load_s": round(time.perf_counter() - started, 2)}
    row["notes"] = list(net.notes)
    kinds = {node.op_type for node in net.model.graph}
    row["batch_norm"] = "BatchNormalization" in kinds
    row["exact"] = pruned(net, allow_inexact=False)
    if row["exact"]["more_if_inexact"]:
        gc.collect()
        row["inexact"] = pruned(net, allow_inexact=True)
    harness.write(out, row)


def pruned(net: Any, allow_inexact: bool) -> dict[str, Any]:
    """Prune, verify and count."""
    import networks

    from slimnet.common.errors import SlimnetError
    from slimnet.graph.surgery import mask, slim
    from slimnet.graph.trace import trace
    from slimnet.verification.verify import verify

    if not (alone := trace(net, allow_inexact)).groups:
        nothing = {"groups": 0, "left": 1.0, "params": count(net, net.model), "pinned": _reasons(alone)}
        nothing |= {"more_if_inexact": _more(alone), "times": dict.fromkeys(STEPS, 0.0)}
        return nothing | {"exact": True, "error": 0.0, "unproven": []}
    traced, removed, times = prune(net, allow_inexact, REPEATS)
    networks.calibrate(net, mask(traced, removed))
    thin = slim(traced, removed)
    row: dict[str, Any] = {
        "groups": len(traced.groups),
        "left": round(count(net, thin) / count(net, net.model), 4),
        "params": count(net, net.model),
        "pinned": _reasons(traced),
        "more_if_inexact": _more(traced),
        "times": times,
    }
    started = time.perf_counter()
    try:
        result = verify(traced, removed)
    except SlimnetError as error:
        return row | {"exact": False, "failed": str(error)}
    row |= {"exact": result.exact, "error": result.max_rel_error, "unproven": result.unproven}
    row |= {"verify_s": round(time.perf_counter() - started, 2), "plain_mask_error": result.plain_mask_error}
    if net.torch is not None:
        row["module"] = _survives(net, traced.plan(removed), thin)
    return row


def prune(net: Any, allow_inexact: bool, repeats: int) -> tuple[Any, Any, dict[str, float]]:
    """Trace, removed units, and the median seconds of each step over warm repetitions."""
    from slimnet.graph.surgery import slim
    from slimnet.graph.trace import trace
    from slimnet.methods.criteria import score
    from slimnet.planning.budget import choose

    times: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(repeats + 1):
        gc.collect()  # what the last repetition left
        marks = [time.perf_counter()]
        traced = trace(net, allow_inexact)
        marks.append(time.perf_counter())
        scores = score("l1", traced.params(), traced.groups)
        marks.append(time.perf_counter())
        removed = choose(traced, scores, RATIO)
        traced.plan(removed)
        marks.append(time.perf_counter())
        slim(traced, removed)
        marks.append(time.perf_counter())
        for step, start, end in zip(STEPS, marks, marks[1:], strict=False):
            times[step].append(end - start)
    return traced, removed, {step: round(median(values[1:]), 4) for step, values in times.items()}


def count(net: Any, model: Any) -> int:
    """Parameters: of a network from torch what torch calls so, else all but the statistics of batch norms and integers.

    Weights that are quantised, to eight bits, are parameters too.
    """
    initializers = model.graph.initializers
    if net.torch is not None:
        names = {name for name, _ in net.torch.module.named_parameters()} & set(initializers)
    else:
        norms = [n for n in model.graph if n.op_type == "BatchNormalization"]
        statistics = {v.name for n in norms for v in n.inputs[3:]}
        types = {name: v.const_value.dtype for name, v in initializers.items()}
        names = {name for name, t in types.items() if t.is_floating_point() or t.itemsize == 1} - statistics
    return sum(initializers[name].const_value.size for name in names)


def _more(traced: Any) -> bool:
    """Whether inexact removal lets more go."""
    return any("--allow-inexact" in pin.why for pin in traced.pins)


def _reasons(traced: Any) -> list[list[Any]]:
    """Number of units pinned and why, most first."""
    found: Counter[str] = Counter()
    for pin in traced.pins:
        found[f"{pin.op}: {pin.why}"] += pin.units
    return [[units, why] for why, units in found.most_common(4)]


def _survives(net: Any, plan: Any, thin: Any) -> list[Any]:
    """Whether the torch module computes the same with the slim widths, and if not, why."""
    from slimnet.io.torch_follow import CannotSlim
    from slimnet.io.torch_slim import slim_module, slim_module_survives
    from slimnet.runtime.feeds import random_inputs

    try:
        module, _ = slim_module(net.torch, plan)
    except CannotSlim as why:
        return [False, str(why)]
    return list(slim_module_survives(module, thin, random_inputs(net, net.inputs)))


# -- the table -------------------------------------------------------------------------------------------------------


def report(table: dict[str, Any]) -> None:
    """Write results/coverage.md."""
    yardstick = harness.read(harness.RESULTS / "torch_pruning.json")
    columns = ["network", "kind", "exact", "proven", "error", "left", "left, inexact", "torch-pruning", "torch module"]
    columns += [*STEPS, "total s", "pinned", "exported otherwise"]
    rows = [_cells(name, row, yardstick.get(name, {})) for name, row in table.items()]
    used = harness.versions("torch", "torchvision", "onnx", "onnxruntime", "torch-pruning")
    text = f"# Coverage\n\n`python benchmarks/coverage.py` and `python benchmarks/torch_pruning_left.py`; {used}.\n\n"
    text += f"{__doc__.split(chr(10) * 2)[2]}\n\n`left` is the fraction of parameters left, by slimnet exactly, by "
    text += "slimnet with inexact removal, and by torch-pruning. Times are medians of warm repetitions, in seconds.\n\n"
    text += f"{_summary(table, yardstick)}\n\n{harness.markdown(columns, rows)}"
    (harness.RESULTS / "coverage.md").write_text(text)


def _cells(name: str, row: dict[str, Any], peer: dict[str, Any]) -> list[Any]:
    exact, inexact = row.get("exact", {}), row.get("inexact", {})
    if not exact:
        return [name, row.get("kind"), False, row["failed"], *[""] * 11]
    times = exact["times"]
    module = exact.get("module")
    return [
        name,
        row["kind"],
        exact["exact"] and inexact.get("exact", True),
        _proven(exact) and (not inexact or _proven(inexact)),
        f"{exact.get('error', 0):.0e}",
        exact["left"],
        inexact.get("left"),
        peer.get("failed", peer.get("left")),
        None if module is None else "yes" if module[0] else module[1],
        *(times[step] for step in STEPS),
        sum(times.values()),
        "; ".join(f"{units} {why}" for units, why in exact["pinned"][:3]),
        "; ".join(note.partition(",")[0] for note in row.get("notes", ())),
    ]


def _proven(result: dict[str, Any]) -> bool:
    return result["exact"] and not result["unproven"]


def misses(name: str, row: dict[str, Any], peer: dict[str, Any]) -> list[str]:
    """What keeps a network from being covered."""
    if "exact" not in row:
        return [row["failed"]]
    found = []
    for kind in ("exact", "inexact"):
        result = row.get(kind)
        if result is None:
            continue
        if not result["exact"]:
            found.append(f"{kind}: {result.get('failed', 'differs')}")
        elif result["unproven"]:
            found.append(f"{kind}: unproven {', '.join(result['unproven'][:4])}")
    best = row.get("inexact", row["exact"])["left"]
    if best > peer.get("left", 1.0) + MARGIN:
        found.append(f"left {best:.3f}, torch-pruning {peer['left']:.3f}")
    return found


def _summary(table: dict[str, Any], yardstick: dict[str, Any]) -> str:
    wrong = {name: found for name, row in table.items() if (found := misses(name, row, yardstick.get(name, {})))}
    totals = [sum(row["exact"]["times"].values()) for row in table.values() if "exact" in row]
    lines = [f"{len(table) - len(wrong)} of {len(table)} networks are exact, proven and small enough."]
    kinds = Counter(row.get("kind", "failed") for row in table.values())
    lines.append(f"Of each kind: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.")
    if totals:
        lines.append(f"Trace, score, plan and slim together: median {median(totals):.2f} s, worst {max(totals):.2f} s.")
    lines += [f"- {name}: {'; '.join(found)}" for name, found in wrong.items()]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    wrong = misses("", row, {})
    result = row.get("exact", {})
    spent = sum(result.get("times", {}).values())
    inexact = row.get("inexact", {}).get("left", "")
    cost = f"{spent:.2f} s ({row['seconds']} s, {row['peak_gib']} GiB)"
    return f"left {result.get('left')} {inexact} in {cost} {wrong or 'ok'}"


if __name__ == "__main__":
    if "--one" in sys.argv:
        examine(sys.argv[-2], Path(sys.argv[-1]))
    else:
        main()
