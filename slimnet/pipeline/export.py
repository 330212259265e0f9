"""From a decision to files: take the units out, prove it, fine-tune, time it, and write everything or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput, VerifyFailed
from slimnet.common.files import check_writable, essence
from slimnet.data.load import Data
from slimnet.graph import surgery
from slimnet.graph.axes import Bools
from slimnet.graph.gather import gather
from slimnet.graph.layers import macs_by_layer
from slimnet.graph.net import Net
from slimnet.graph.optimise import optimise
from slimnet.graph.plan import Plan
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.onnx_file import save_onnx
from slimnet.methods.base import Scores
from slimnet.planning.target import MEASURED, Target
from slimnet.report.html import write_report
from slimnet.report.page import check_pages
from slimnet.report.summary import Measured, Report, summarise
from slimnet.runtime.accuracy import accuracy_of, real_inputs
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import index_bounds, random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.timing.result import AFTER, BenchResult
from slimnet.timing.run import bench
from slimnet.verification.verify import Verification, verify

SLIM, PLAN, REPORT, TENSORS = "slim.onnx", "plan.json", "report.json", "slim.safetensors"
PAGE = "report.html"
#: Where a run keeps the state of its training, inside the output folder.
CHECKPOINTS = "checkpoints"
#: Two measurements of a speedup that differ by more than this fraction were not taken under the same conditions.
_DOUBTFUL = 0.1


@dataclass(frozen=True)
class Delivery:
    """What to do with a decision: where to write, what to measure.

    `bench_seconds` of 0 skips timing, `data` measures accuracy on its test split, `prove` shows that verification
    could have failed, `command` is the command line to report, if one asked for it,
    `backend` runs every network: to verify it, to measure its accuracy and to time it.
    """

    out: Path | None = None
    backend: Backend = DEFAULT
    bench_seconds: float = 3.0
    prove: bool = True
    data: Data | None = None
    command: str | None = None


@dataclass(frozen=True)
class Decision:
    """What goes, and what the result is held against.

    Attributes:
        traced: the network as it is now, after any training.
        removed: the units that go.
        how: method and settings, for plan and report.
        notes: what else the user should know.
        original: also measure the distance to this network; with `unchanged` the result must equal it.
        gather: also skip the input positions that all readers multiply by zero.
        dense: the network as it was given, if training has changed it since; "before" is measured on it.
        training: what the phases of training recorded, for the report.
        scores: what the units of each group were ranked by, for the report.
        target: what was asked for and how it was met, for the report (see `aiming.Hit`).
    """

    traced: Trace
    removed: Bools
    how: Mapping[str, Any]
    notes: Sequence[str] = ()
    original: ir.Model | None = None
    unchanged: bool = False
    gather: bool = False
    dense: ir.Model | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores | None = None
    target: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned slim network.

    Attributes:
        model: the slim graph with new weights, not yet optimised.
        tensors: its parameters by name; None where the PyTorch class cannot carry the widths.
        checked: what comparing the graph with its masked counterpart gave, where that was trained.
        training: what fine-tuning recorded.
    """

    model: ir.Model
    tensors: Mapping[str, np.ndarray] | None
    checked: Verification | None
    training: Mapping[str, Any]


#: Fine-tunes the slim graph that a plan leads to.
Tuner: TypeAlias = Callable[[Plan, ir.Model], Tuned]


def deliver(decision: Decision, delivery: Delivery, clock: Clock, tune: Tuner | None = None) -> Report:
    """Take units out of a network, prove the result, fine-tune it if asked to, time it, and write it.

    Raises:
        VerifyFailed: slim and mask differ; nothing is written.
    """
    traced, net = decision.traced, decision.traced.net
    removed = traced.never_empty(decision.removed)
    plan = traced.plan(removed, decision.how)
    with clock("slim"):
        thin = surgery.slim(traced, removed)
        thin, skipped = gather(thin) if decision.gather else (thin, {})
    with clock("export"):
        before, after = optimise(decision.dense or net.model), optimise(thin)
    measured, training, tensors = _figures(decision, delivery, skipped), dict(decision.training), None
    with _all_or_nothing(delivery.out) as folder:
        save_onnx(after, folder / SLIM)
        checked = _verified(decision, removed, folder / SLIM, delivery, clock)
        _accuracy(measured, "before", before, net, delivery, clock)
        if tune is not None:
            _accuracy(measured, "pruned", after, net, delivery, clock)
            tuned = tune(plan, thin)
            after, tensors = optimise(tuned.model), tuned.tensors
            checked, training = tuned.checked or checked, {**training, **tuned.training}
            save_onnx(after, folder / SLIM)
        _accuracy(measured, "after", after, net, delivery, clock)
        plan.save(folder / PLAN)
        torch_side = _save_torch(net, plan, after, folder / TENSORS, tensors, delivery.backend) if net.torch else None
        _count(measured, traced, removed, after if skipped else None)
        if decision.unchanged:
            measured.sparsity = _sparsity(net.model, thin)
        measured.timed = _timed(traced, removed, before, after, delivery, clock)
        notes = [*decision.notes, *_doubts(decision.target, measured.timed)]
        report = summarise(traced, removed, plan, checked, measured, clock.seconds, torch_side, notes, training)
        report.save(folder / REPORT)
        if delivery.out is not None:
            write_report(report.content, folder / PAGE)
    return report


def _figures(decision: Decision, delivery: Delivery, gathered: dict[str, tuple[int, int]]) -> Measured:
    return Measured(gathered=gathered, scores=decision.scores, command=delivery.command, target=decision.target)


def _verified(decision: Decision, removed: Bools, file: Path, delivery: Delivery, clock: Clock) -> Verification:
    with clock("verify") as progress, explained("nothing was written. Please report the model"):
        return verify(
            decision.traced,
            removed,
            file,
            real_inputs(decision.traced.net, delivery.data),
            backend=delivery.backend,
            prove=delivery.prove,
            original=decision.original,
            unchanged=decision.unchanged,
            progress=progress,
        )


def _timed(
    traced: Trace, removed: Bools, before: ir.Model, after: ir.Model, delivery: Delivery, clock: Clock
) -> BenchResult | None:
    if delivery.bench_seconds <= 0:
        return None
    macs = macs_by_layer(traced), macs_by_layer(traced, removed)
    bounds = index_bounds(traced)
    with clock("bench"):
        return bench(
            before,
            after,
            traced.net.inputs,
            delivery.backend,
            seconds=delivery.bench_seconds,
            layers=True,
            macs=macs,
            bounds=bounds,
        )


def _doubts(target: Mapping[str, Any] | None, timed: BenchResult | None) -> list[str]:
    """A remark where what a target was met by and the medians of the last timing are far apart."""
    if target is None or timed is None or target["kind"] not in MEASURED:
        return []
    planned, unit, last = target["measured"], "x", timed.latency.value
    if target["kind"] == "latency":
        unit, last = "ms", timed.comparison.timing(AFTER).median
    if max(planned, last) / min(planned, last) <= 1 + _DOUBTFUL:
        return []
    option = Target(target["kind"], target["asked"]).option
    return [
        f"{option}: {planned:.3g}{unit} was measured while planning, undisturbed, and {last:.3g}{unit} at the end, by "
        "medians: the machine is busy, or its cores move; measure again with `slimnet bench`"
    ]


def _accuracy(measured: Measured, when: str, model: ir.Model, net: Net, delivery: Delivery, clock: Clock) -> None:
    if delivery.data is not None:
        with clock("accuracy"):
            measured.accuracy[when] = accuracy_of(model, net, delivery.data.test, delivery.backend)


def _count(measured: Measured, traced: Trace, removed: Bools, gathered: ir.Model | None) -> None:
    """Parameters and multiply-adds; of a graph with gathered inputs as it is now."""
    measured.params = traced.parameters(), traced.parameters(removed)
    measured.macs = sum(traced.macs().values()), sum(traced.macs(removed).values())
    if gathered is not None:
        now = trace(Net(gathered, traced.net.name, traced.net.inputs))
        measured.params = measured.params[0], now.parameters()
        measured.macs = measured.macs[0], sum(now.macs().values())


def _sparsity(before: ir.Model, after: ir.Model) -> dict[str, int]:
    """Weights there were, weights stored now, and those of them that are not zero; biases do not count."""

    def weights(model: ir.Model) -> list[np.ndarray]:
        tensors = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
        return [t.numpy() for t in tensors if len(t.shape) > 1]

    stored = weights(after)
    nonzero = sum(int(np.count_nonzero(w)) for w in stored)
    return {"total": sum(w.size for w in weights(before)), "stored": sum(w.size for w in stored), "nonzero": nonzero}


def check_delivery(net: Net, delivery: Delivery) -> None:
    """Find out before any work what would fail after it."""
    if delivery.out is not None:
        check_writable(delivery.out)
        check_pages()
        for file in (delivery.out / SLIM, delivery.out / TENSORS):
            if net.source is not None and file.exists() and file.samefile(net.source):
                raise BadInput(f"{file}: is the model itself and would be replaced; choose another output folder")
    if delivery.data is not None:
        delivery.data.test.check(net)


@contextmanager
def explained(advice: str) -> Iterator[None]:
    """Say what a failed verification means to whoever asked for it."""
    try:
        yield
    except VerifyFailed as error:
        raise VerifyFailed(f"{error}; {advice}") from error


def _save_torch(
    net: Net, plan: Plan, slim: ir.Model, path: Path, tensors: Mapping[str, np.ndarray] | None, backend: Backend
) -> dict[str, Any]:
    """Write the slim module if the original class can carry the widths; else say which module cannot."""
    from slimnet.io.torch_follow import CannotSlim
    from slimnet.io.torch_slim import load_tensors, save_slim, slim_module, slim_module_survives

    assert net.torch is not None
    try:
        module, _ = slim_module(net.torch, plan)
        if tensors is not None:
            load_tensors(module, tensors)
        survives, why = slim_module_survives(module, slim, random_inputs(net, net.inputs), backend)
        if survives:
            save_slim(net, plan, path, tensors)
    except (CannotSlim, BadInput) as error:
        survives, why = False, essence(error)
    return {"survives": survives, "why": why}


@contextmanager
def _all_or_nothing(out: Path | None) -> Iterator[Path]:
    """A fresh folder to write to, whose files move to `out` together at the end; they vanish on failure."""
    parent = None if out is None else next(folder for folder in out.absolute().parents if folder.exists())
    with tempfile.TemporaryDirectory(dir=parent, prefix=".slimnet-") as folder:
        yield Path(folder)
        if out is not None:
            try:
                out.mkdir(parents=True, exist_ok=True)
                for name in (TENSORS, f"{SLIM}.data"):
                    (out / name).unlink(missing_ok=True)
                for file in sorted(Path(folder).iterdir()):
                    os.replace(file, out / file.name)
            except OSError as error:
                raise BadInput(f"{out}: cannot be written ({essence(error)}); choose another folder") from error
