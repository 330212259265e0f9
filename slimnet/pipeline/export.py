"""From a decision to files: slim, verify, fine-tune, verify, export, bench, and write everything or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput, VerifyFailed, explained
from slimnet.common.files import check_writable, essence
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
from slimnet.pipeline.config import RunConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.pipeline.load import loaded
from slimnet.pipeline.recover import recovered, ruins, unlabelled
from slimnet.planning.target import MEASURED, Target
from slimnet.recovery.weights import WEIGHTS, save_weights
from slimnet.report.html import write_report
from slimnet.report.page import check_pages
from slimnet.report.summary import Measured, Report, summarise
from slimnet.runtime.accuracy import accuracy_of, real_inputs
from slimnet.runtime.backend import Backend, RunFailed
from slimnet.runtime.feeds import index_bounds, random_inputs
from slimnet.timing.result import AFTER, BenchResult
from slimnet.timing.run import bench
from slimnet.verification.verify import Verification, verify

if TYPE_CHECKING:
    from slimnet.pipeline.finetune import FineTuned
    from slimnet.pipeline.training import Training

SLIM, PLAN, REPORT, TENSORS = "slim.onnx", "plan.json", "report.json", "slim.safetensors"
PAGE = "report.html"
#: The folder that the transformers library reads.
PRETRAINED = "slim.pretrained"
#: Where a run keeps the state of its training, inside the output folder.
CHECKPOINTS = "checkpoints"
#: Two measurements of a speedup that differ by more than this fraction were not taken under the same conditions.
_DOUBTFUL = 0.1


def carry_out(decision: PruningDecision, run: RunConfig, clock: Clock, training: Training | None = None) -> Report:
    """Slim a network, prove the result, fine-tune it if asked to and prove that, export, time and write it.

    Args:
        decision: The decision that says what is removed.
        run: The run config, with its data loaded: where the results go and what is measured.
        clock: The clock that times the steps.
        training: The settings to fine-tune the slim network with, for the epochs of their `finetune`; None leaves its
            weights as they are.

    Raises:
        VerifyFailed: slim and mask differ; nothing is written.
        TrainingFailed: the loss is no longer a number; nothing is written.
    """
    traced, net = decision.traced, decision.traced.net
    removed = traced.never_empty(decision.removed)
    plan = traced.plan(removed, decision.provenance)
    measured = Measured(scores=decision.scores, command=run.command, target=decision.target)
    finetuned: FineTuned | None = None
    with _all_or_nothing(run.folder) as folder:
        recovery = recovered(decision, removed, plan, run, clock)
        if recovery is not None:
            if run.dataset is not None:
                _accuracy(measured, "pruned", optimise(surgery.slim(traced, removed)), net, run, clock)
            decision, removed, traced = recovery.decision, recovery.removed, recovery.decision.traced
            net = traced.net
            measured.recovery, measured.recovered_on = recovery.found, recovery.source
            if recovery.found.weights:
                plan.provenance["recovered"] = recovery.source
        with clock("slim"):
            slim = surgery.slim(traced, removed)
            slim, measured.gathered = gather(slim) if decision.gather else (slim, {})
        with clock("export"):
            after = optimise(slim)
            save_onnx(after, folder / SLIM)
            before = decision.dense or net.model
            if run.bench_seconds > 0 or run.dataset is not None:
                before = optimise(before)
        checked = _verified(decision, traced, removed, folder / SLIM, run, clock)
        _accuracy(measured, "before", before, net, run, clock)
        if training is not None and training.finetune.epochs:
            _accuracy(measured, "recovered" if recovery is not None else "pruned", after, net, run, clock)
            finetuned = _finetuned(traced, removed, plan, slim, training, clock)
            after = optimise(finetuned.model)
            save_onnx(after, folder / SLIM)
            if finetuned.masked is not None:
                checked = _verified(decision, finetuned.masked, removed, folder / SLIM, run, clock)
        _accuracy(measured, "after", after, net, run, clock)
        if recovery is not None and recovery.found.weights:
            save_weights(folder / WEIGHTS, traced, removed, recovery.found.weights)
        plan.save(folder / PLAN)
        torch_side = _save_torch(net, plan, after, folder / TENSORS, finetuned, run.backend)
        _count(measured, traced, removed, after if measured.gathered else None)
        measured.sparsity = _sparsity(net.model, slim) if decision.unchanged else None
        measured.timed = _timed(traced, removed, before, after, run, clock)
        notes = [*net.notes, *decision.notes, *_doubts(decision.target, measured.timed)]
        if recovery is not None:
            notes += recovery.notes if finetuned is not None else [*recovery.notes, *ruins(recovery.found)]
        recorded = {**decision.training, **(finetuned.training if finetuned is not None else {})}
        report = summarise(traced, removed, plan, checked, measured, clock.seconds, torch_side, notes, recorded)
        report.save(folder / REPORT)
        if run.folder is not None:
            write_report(report.content, folder / PAGE)
    return report


def _verified(
    decision: PruningDecision, traced: Trace, removed: Bools, file: Path, run: RunConfig, clock: Clock
) -> Verification:
    """The result of comparing the file with the masked network."""
    with clock("verify") as progress, explained("nothing was written"):
        try:
            return verify(
                traced,
                removed,
                file,
                real_inputs(traced.net, run.dataset),
                backend=run.backend,
                prove=run.prove,
                original=decision.original,
                unchanged=decision.unchanged,
                progress=progress,
            )
        except VerifyFailed:
            _check_runs(traced, run.backend)
            raise


def _check_runs(traced: Trace, backend: Backend) -> None:
    """Make sure that the network runs as it was given; nothing can be proven otherwise. Raises BadInput."""
    net = traced.net
    try:
        backend.session(net.model).run(random_inputs(net, net.inputs, bounds=index_bounds(traced)))
    except RunFailed as failure:
        raise BadInput(
            f"{net.source or net.name}: {failure}; give other `inputs`, or export the model again"
        ) from failure


def _finetuned(
    traced: Trace, removed: Bools, plan: Plan, slim: ir.Model, training: Training, clock: Clock
) -> FineTuned:
    """The result of `finetune.finetune`, whose module loads torch."""
    from slimnet.pipeline.finetune import finetune

    return finetune(traced, removed, plan, slim, training, clock)


def _timed(
    traced: Trace, removed: Bools, before: ir.Model, after: ir.Model, run: RunConfig, clock: Clock
) -> BenchResult | None:
    if run.bench_seconds <= 0:
        return None
    macs = macs_by_layer(traced), macs_by_layer(traced, removed)
    bounds = index_bounds(traced)
    with clock("bench"):
        return bench(
            before,
            after,
            traced.net.inputs,
            run.backend,
            seconds=run.bench_seconds,
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


def _accuracy(measured: Measured, when: str, model: ir.Model, net: Net, run: RunConfig, clock: Clock) -> None:
    if run.dataset is not None:
        with clock("accuracy"):
            measured.accuracy[when] = accuracy_of(model, net, run.dataset.test, run.backend)


def _count(measured: Measured, traced: Trace, removed: Bools, gathered: ir.Model | None) -> None:
    """Record the parameters and MACs; with gathered inputs, those after are of the graph as it is now."""
    measured.params = traced.parameters(), traced.parameters(removed)
    measured.macs = sum(traced.macs().values()), sum(traced.macs(removed).values())
    if gathered is not None:
        now = trace(Net(gathered, traced.net.name, traced.net.inputs))
        measured.params = measured.params[0], now.parameters()
        measured.macs = measured.macs[0], sum(now.macs().values())


def _sparsity(before: ir.Model, after: ir.Model) -> dict[str, int]:
    """The number of weights before, of weights stored now, and of those that are not zero; biases do not count."""

    def weights(model: ir.Model) -> list[np.ndarray]:
        tensors = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
        return [t.numpy() for t in tensors if len(t.shape) > 1]

    stored = weights(after)
    nonzero = sum(int(np.count_nonzero(w)) for w in stored)
    return {"total": sum(w.size for w in weights(before)), "stored": sum(w.size for w in stored), "nonzero": nonzero}


def prepared(net: Net, run: RunConfig) -> RunConfig:
    """A run with its data loaded.

    Raises:
        BadInput: what would otherwise fail after all the work: a folder that cannot be written to, data that do not
            fit the network, a provider that is not installed.
    """
    assert run.backend is not None
    if run.folder is not None:
        check_writable(run.folder)
        # What is drawn by matplotlib are the latencies of layers, and curves of a training, which needs data.
        check_pages(charts=run.bench_seconds > 0 or run.data is not None)
        for file in (run.folder / SLIM, run.folder / TENSORS):
            if net.source is not None and file.exists() and file.samefile(net.source):
                raise BadInput(f"{file}: is the model itself and would be replaced; choose another output folder")
    run = replace(run, data=loaded(run.data))
    if run.dataset is not None:
        run.dataset.test.check(net)
    return replace(run, calib=unlabelled(net, run))


def _save_torch(
    net: Net, plan: Plan, slim: ir.Model, path: Path, finetuned: FineTuned | None, backend: Backend
) -> dict[str, Any] | None:
    """Write the slim module if the original class can carry the widths; else say which module cannot.

    A network of the transformers library is also written as that library does, if its config can say the widths.

    Returns:
        {"survives", "why"}; None for a network that does not come from PyTorch.
    """
    if net.torch is None:
        return None
    from slimnet.io.torch_follow import CannotSlim
    from slimnet.io.torch_pretrained import is_pretrained, save_pretrained
    from slimnet.io.torch_slim import load_tensors, save_slim, slim_module, slim_module_survives

    tensors = finetuned.tensors if finetuned is not None else None
    try:
        module, attributes = slim_module(net.torch, plan)
        if tensors is not None:
            load_tensors(module, tensors)
        survives, why = slim_module_survives(module, slim, random_inputs(net, net.inputs), backend)
        if survives and (net.torch.arch is not None or not is_pretrained(module)):
            save_slim(net, plan, path, tensors, (module, attributes))
        if survives and is_pretrained(module):
            save_pretrained(module, path.with_name(PRETRAINED))
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
                for name in (TENSORS, WEIGHTS, f"{SLIM}.data"):
                    (out / name).unlink(missing_ok=True)
                if (out / PRETRAINED).exists():
                    shutil.rmtree(out / PRETRAINED)
                for file in sorted(Path(folder).iterdir()):
                    os.replace(file, out / file.name)
            except OSError as error:
                raise BadInput(f"{out}: cannot be written ({essence(error)}); choose another folder") from error
