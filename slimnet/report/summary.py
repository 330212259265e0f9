"""report.json and the summary table of a run."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table

from slimnet.common.files import replacing
from slimnet.common.version import __version__
from slimnet.graph.axes import Bools
from slimnet.graph.plan import Plan
from slimnet.graph.units import Group, Trace
from slimnet.methods.base import Scores
from slimnet.report.layers import histogram, weights
from slimnet.runtime.onnxruntime import NAME, VERSION
from slimnet.timing.result import BenchResult
from slimnet.verification.verify import Verification


@dataclass
class Report:
    """The content of report.json; its keys are documented in the README and do not change."""

    content: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write report.json; an existing file is replaced as a whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        return json.dumps(self.content, indent=2, default=_plain) + "\n"


@dataclass
class Measured:
    """Figures of a run.

    Attributes:
        params, macs: before and after.
        accuracy: "before", "pruned" (before fine-tuning) and "after", those that were measured.
        sparsity: of all weights (two axes or more) the "total" there was, how many are "stored" now, and how many of
            those are "nonzero"; only where single weights were set to zero.
        timed: latencies.
        gathered: per weight the inputs it read before and reads now, where a Gather skips the others.
        scores: what the units of each group were ranked by, where they were.
        command: the command line that asked for it, if one did.
        target: what was asked for and how it was met, with the predicted milliseconds of each layer.
    """

    params: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    accuracy: dict[str, float] = field(default_factory=dict)
    sparsity: dict[str, int] | None = None
    timed: BenchResult | None = None
    gathered: dict[str, tuple[int, int]] = field(default_factory=dict)
    scores: Scores | None = None
    command: str | None = None
    target: Mapping[str, Any] | None = None


def summarise(
    trace: Trace,
    removed: Bools,
    plan: Plan,
    checked: Verification,
    figures: Measured,
    seconds: Mapping[str, float],
    torch_side: Mapping[str, Any] | None,
    notes: Sequence[str],
    training: Mapping[str, Any],
) -> Report:
    """Collect what a run found."""
    macs = figures.macs
    measured = figures.timed.to_json() if figures.timed is not None else {}
    unproven = set(checked.unproven)
    return Report(
        {
            "model": trace.net.name,
            "method": plan.how.get("method"),
            "how": plan.how,
            "params": _pair(*figures.params),
            "macs": _pair(*macs),
            "speedup": {"flops": macs[0] / max(macs[1], 1), "latency": None, "efficiency": None}
            | measured.get("speedup", {}),
            "target": None if figures.target is None else _target(figures.target, figures.timed),
            "latency_ms": measured.get("latency_ms", {"before": None, "after": None}),
            "bench": measured.get("bench"),
            "verify": checked.to_json(),
            "accuracy": {when: figures.accuracy.get(when) for when in ("before", "pruned", "after")},
            "groups": [_group(g, removed, None if not checked.proven and not unproven else g.name not in unproven, s)
                       for g, s in zip(trace.groups, figures.scores or repeat(None), strict=False)],
            "weights": weights(trace, removed),
            "pinned": [asdict(pin) for pin in trace.pins],
            "sparsity": figures.sparsity,
            "gathered": {name: _pair(*sizes) for name, sizes in figures.gathered.items()},
            "training": dict(training),
            "torch": torch_side,
            "notes": list(notes),
            "command": figures.command,
            "timing_s": {step: round(s, 4) for step, s in seconds.items()},
            "versions": {"slimnet": __version__, NAME: VERSION, "python": platform.python_version()},
        }
    )  # fmt: skip


def _pair(before: Any, after: Any) -> dict[str, Any]:
    return {"before": before, "after": after}


def _target(target: Mapping[str, Any], timed: BenchResult | None) -> dict[str, Any]:
    """What was asked for, and per layer where the multiply-adds and the time went."""
    predicted = target["layers"]
    layers = {layer.name: layer for layer in timed.layers} if timed is not None else {}
    total = sum(layer.macs[0] or 0 for layer in layers.values()) or 1
    rows = []
    for name in dict.fromkeys([*layers, *predicted]):
        ms, macs = (layers[name].ms, layers[name].macs) if name in layers else ((None, None), (None, None))
        share = None if macs[0] is None else macs[0] / total
        rows.append({"name": name, "macs_share": share, "macs": _pair(*macs), "predicted_ms": predicted.get(name),
                     "ms": _pair(*ms)})  # fmt: skip
    return {**target, "layers": rows}


def _group(group: Group, removed: Bools, proven: bool | None, scores: npt.NDArray[np.float64] | None) -> dict[str, Any]:
    kept = ~removed[group.units]
    tensors = list(dict.fromkeys(m.tensor for m in group.members))
    return {"name": group.name, "kind": group.kind, "before": len(group), "after": int(kept.sum()), "proven": proven,
            "tensors": tensors, "scores": None if scores is None else histogram(scores, kept)}  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not belong in a report")


def summary_table(report: Report) -> Table:
    """One table that says what changed."""
    r = report.content
    table = Table(title=f"{r['model']}: {r['method']}", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("", "before", "after", "change"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("parameters", *_counts(r["params"]))
    table.add_row("MACs", *_counts(r["macs"]))
    if r["target"] is not None and r["target"]["tries"]:
        t = r["target"]
        unit = "x" if t["kind"] == "speedup" else " ms"
        planned = f"{t['measured']:.3g}{unit} in {len(t['tries'])} tries"
        table.add_row(f"{t['kind']} asked for", "", f"{t['asked']:.3g}{unit}", planned)
    before, after = r["latency_ms"]["before"], r["latency_ms"]["after"]
    if before and after:
        table.add_row("latency (median)", f"{before['median']:.3g} ms", f"{after['median']:.3g} ms", _faster(r))
        low, high = r["bench"]["latency_interval"]
        table.add_row("  95 % interval", "", "", f"{low:.2f}x to {high:.2f}x")
        table.add_row("  of what MACs promise", "", "", _efficiency(r["speedup"]))
    if r["accuracy"]["before"] is not None:
        a, pruned, b = (r["accuracy"][when] for when in ("before", "pruned", "after"))
        if pruned is not None:
            table.add_row(
                "accuracy before fine-tuning", f"{a:.2%}", f"{pruned:.2%}", f"{100 * (pruned - a):+.2f} points"
            )
        table.add_row("accuracy", f"{a:.2%}", f"{b:.2%}", f"{100 * (b - a):+.2f} points")
    v = r["verify"]
    # A report is only ever made of equal networks; where no difference could have shown, that is not called exact.
    state = "unproven" if v["unproven"] else "exact"
    table.add_row("slim = masked", "", state, f"{v['max_rel_error']:.1e} (allowed {v['tolerance']:.0e})")
    if v["proven"] or v["unproven"]:
        total = len(v["proven"]) + len(v["unproven"])
        table.add_row("groups proven", "", f"{len(v['proven'])} of {total}", "")
    if v["plain_mask_error"] is not None:
        table.add_row("inexact: distance to mask", "", "", f"{v['plain_mask_error']:.1e}")
    if v["dense_error"] is not None:
        table.add_row("distance to the original", "", "", f"{v['dense_error']:.1e}")
    if r["sparsity"] is not None:
        total, nonzero = r["sparsity"]["total"], r["sparsity"]["nonzero"]
        table.add_row("weights not zero", f"{total:,}", f"{nonzero:,}", f"{nonzero / max(total, 1):.2%} left")
    for name, sizes in r["gathered"].items():
        table.add_row(f"inputs read by {name}", f"{sizes['before']:,}", f"{sizes['after']:,}", "")
    if r["torch"] is not None:
        table.add_row("PyTorch module", "", "survives" if r["torch"]["survives"] else "does not", "")
    return table


def _faster(content: Mapping[str, Any]) -> str:
    speedup = content["speedup"]["latency"]
    return f"{speedup:.2f}x faster" if speedup >= 1 else f"{1 / speedup:.2f}x slower"


def _efficiency(speedup: Mapping[str, float | None]) -> str:
    measured, promised, efficiency = (speedup[key] for key in ("latency", "flops", "efficiency"))
    return "" if efficiency is None else f"{measured:.2f} / {promised:.2f} = {efficiency:.2f}"


def _counts(pair: Mapping[str, int]) -> tuple[str, str, str]:
    before, after = pair["before"], pair["after"]
    return f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%} left"
