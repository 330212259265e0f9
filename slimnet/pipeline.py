"""The jobs behind the verbs: choose what goes, take it out, prove it, time it, write it down."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.clock import Clock
from slimnet.errors import BadInput, VerifyFailed
from slimnet.graph import surgery
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.optimise import optimise
from slimnet.graph.shrink import absorb, shrinkable
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.data import Split
from slimnet.io.files import check_writable, essence
from slimnet.io.inputs import sizes
from slimnet.io.onnx_file import load_onnx, save_onnx
from slimnet.masks import masked_units, read_masks
from slimnet.methods import create, unranked
from slimnet.planning.budget import choose
from slimnet.planning.plan import Plan
from slimnet.report.summary import Report, summarise
from slimnet.timing.baseline import save as save_baseline
from slimnet.timing.conditions import as_net
from slimnet.timing.profile import layer_name
from slimnet.timing.result import BenchResult
from slimnet.timing.run import bench, check_alike
from slimnet.timing.session import input_dtypes, random_inputs, session
from slimnet.verification import Feeds, Verification, index_bounds, verify

SLIM, PLAN, REPORT, TENSORS = "slim.onnx", "plan.json", "report.json", "slim.safetensors"


@dataclass(frozen=True)
class Budget:
    """How much to remove: see `plan.budget.choose`."""

    ratio: float = 0.5
    scope: str = "layer"
    round_to: int | str | None = "auto"
    ratio_for: tuple[tuple[str, float], ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """What to do with a decision: where to write, what to measure.

    `bench_seconds` of 0 skips timing, `data` measures accuracy, `prove` shows that verification could have failed.
    """

    out: Path | None = None
    threads: int | None = None
    bench_seconds: float = 3.0
    prove: bool = True
    data: Split | None = None


def prune(
    net: Net,
    method: str = "l1",
    budget: Budget | None = None,
    delivery: Delivery | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    allow_inexact: bool = False,
    prefer: str | None = None,
    clock: Clock | None = None,
) -> Report:
    """Score, plan, slim, verify, time and write a network.

    Args:
        net: the dense network.
        method: name of a criterion; `options` are its hyper-parameters.
        budget: how much goes.
        delivery: where the results go.
        allow_inexact: follow channels through layer norms, softmax and means.
        prefer: "heads" or "head-dims".
        clock: times the steps.

    Raises:
        BadInput: an option that does not fit the network.
        VerifyFailed: slim and mask differ; nothing is written.
    """
    budget, delivery, clock = budget or Budget(), delivery or Delivery(), clock or Clock()
    _check_delivery(net, delivery)
    scorer = create(method, **(options or {}))
    with clock("trace"):
        traced = trace(net, allow_inexact, prefer)
    with clock("score"):
        scores = scorer.score(traced.params(), traced.groups)
    with clock("plan"):
        removed = choose(
            traced,
            scores,
            budget.ratio,
            scope=budget.scope,
            ratio_for=budget.ratio_for,
            ignore=budget.ignore,
            round_to=budget.round_to,
            normalise=scorer.normalise,
        )
    how = {
        "method": method,
        "ratio": budget.ratio,
        "scope": budget.scope,
        "round_to": budget.round_to,
    }
    return deliver(traced, removed, delivery, clock, how, notes=_unranked(unranked(traced.groups, scores), method))


def shrink(
    net: Net,
    delivery: Delivery | None = None,
    *,
    fold: bool = False,
    assume_masked: bool = False,
    clock: Clock | None = None,
) -> Report:
    """Remove the channels of a network that are zero already.

    Args:
        net: a network some tool has masked.
        delivery: where the results go.
        fold: first fold the constants that zero filters leave behind into the next biases, where that is exact.
        assume_masked: also remove zero filters whose bias or batch norm leaves a constant; the difference is reported.
        clock: times the steps.
    """
    delivery, clock = delivery or Delivery(), clock or Clock()
    _check_delivery(net, delivery)
    notes = []
    original = net.model
    if fold:
        with clock("absorb"):
            net, count = absorb(net, _probe(net))
        notes.append(f"absorbed {count} constant input channels into biases")
    with clock("trace"):
        found = shrinkable(net, assume_masked)
    for name, count in found.constant.items():
        notes.append(f"{name}: {count} zero filters leave a constant (bias or batch norm); --absorb or --assume-masked")
    if not found.removed.any():
        raise BadInput(f"{net.name}: no channel is zero everywhere it matters. {'; '.join(notes)}".rstrip(". "))
    how = {"method": "shrink", "assume_masked": assume_masked, "absorb": fold}
    return deliver(
        found.trace, found.removed, delivery, clock, how, notes=notes, original=original, unchanged=not assume_masked
    )


def slim_planned(net: Net, path: Path, delivery: Delivery | None = None, clock: Clock | None = None) -> Report:
    """Remove what a plan.json says."""
    delivery, clock = delivery or Delivery(), clock or Clock()
    _check_delivery(net, delivery)
    traced, removed, plan = _traced_for(net, path, clock)
    return deliver(traced, removed, delivery, clock, plan.how)


def slim_masked(net: Net, path: Path, delivery: Delivery | None = None, clock: Clock | None = None) -> Report:
    """Remove what the masks in an .npz file say (see `masks.read_masks`)."""
    delivery, clock = delivery or Delivery(), clock or Clock()
    _check_delivery(net, delivery)
    masks = read_masks(path, net)
    with clock("trace"):
        traced, removed = masked_units(net, masks)
    return deliver(traced, removed, delivery, clock, {"method": "mask"}, original=net.model)


def verify_files(
    net: Net,
    slim: Path,
    plan: Path,
    data: Split | None = None,
    runs: int = 3,
    threads: int | None = None,
    prove: bool = True,
    clock: Clock | None = None,
) -> Verification:
    """Check a slim.onnx against the dense network and the plan that led to it."""
    clock = clock or Clock()
    traced, removed, _ = _traced_for(net, plan, clock)
    candidate = load_onnx(slim, _specs(net)).model
    _check_data(net, data)
    with clock("verify") as progress, _explained(f"is {slim} what {plan} makes of {net.source or net.name}?"):
        return verify(traced, removed, candidate, _real_inputs(net, data), runs, threads, prove, progress=progress)


def bench_files(
    dense: Path,
    slim: Path,
    inputs: Sequence[str] | None,
    threads: int | None,
    batch: int | None,
    seconds: float,
    layers: bool,
    save: Path | None = None,
) -> BenchResult:
    """Time two ONNX files, both after the same optimiser; `save` keeps the second one as a baseline."""
    nets = [as_net(path, list(inputs or ()) or None, batch) for path in (dense, slim)]
    check_alike(*nets)
    traces = [trace(net) for net in nets]
    models = [replace(net, model=optimise(net.model)) for net in nets]
    macs = (macs_by_layer(traces[0]), macs_by_layer(traces[1]))
    bounds = index_bounds(traces[0])
    result = bench(
        models[0].model, models[1].model, nets[0].inputs, threads, None, seconds, layers, macs=macs, bounds=bounds
    )
    if save is not None:
        save_baseline(save, models[1].model, result)
    return result


def _traced_for(net: Net, path: Path, clock: Clock) -> tuple[Trace, Bools, Plan]:
    """Trace a network the way it was traced for a plan."""
    plan = Plan.load(path)
    with clock("trace"):
        traced = trace(net, bool(plan.how.get("allow_inexact")), plan.how.get("prefer"))
    return traced, traced.removed(plan), plan


def _specs(net: Net) -> list[str]:
    return [f"{name}={sizes(shape)}" for name, shape in net.inputs.items()]


def deliver(
    traced: Trace,
    removed: Bools,
    delivery: Delivery,
    clock: Clock,
    how: Mapping[str, Any],
    *,
    notes: Sequence[str] = (),
    original: ir.Model | None = None,
    unchanged: bool = False,
) -> Report:
    """Take units out of a network, prove the result, time it, and write everything or nothing.

    `original` and `unchanged` as in `verify`.
    """
    net = traced.net
    removed = _never_empty(traced, removed)
    plan = traced.plan(removed, how)
    with clock("slim"):
        thin = surgery.slim(traced, removed)
    with clock("export"):
        before, after = optimise(net.model), optimise(thin)
    with _all_or_nothing(delivery.out) as folder:
        save_onnx(after, folder / SLIM)
        with clock("verify") as progress, _explained("nothing was written. Please report the model"):
            checked = verify(
                traced,
                removed,
                folder / SLIM,
                _real_inputs(net, delivery.data),
                threads=delivery.threads,
                prove=delivery.prove,
                original=original,
                unchanged=unchanged,
                progress=progress,
            )
        plan.save(folder / PLAN)
        torch_side = _save_torch(net, plan, after, folder / TENSORS) if net.torch is not None else None
        timed = None
        if delivery.bench_seconds > 0:
            with clock("bench"):
                timed = bench(
                    before,
                    after,
                    net.inputs,
                    delivery.threads,
                    seconds=delivery.bench_seconds,
                    macs=(macs_by_layer(traced), macs_by_layer(traced, removed)),
                    bounds=index_bounds(traced),
                )
        accuracy = None
        if delivery.data is not None:
            with clock("accuracy"):
                accuracy = (accuracy_of(before, net, delivery.data), accuracy_of(after, net, delivery.data))
        report = summarise(traced, removed, plan, checked, timed, accuracy, clock.seconds, torch_side, notes)
        report.save(folder / REPORT)
    return report


def macs_by_layer(traced: Trace, removed: Bools | None = None) -> dict[str, int]:
    """Multiply-adds by the layer names that the profiler uses."""
    out: dict[str, int] = {}
    for node, count in traced.macs(removed).items():
        out[layer_name(node)] = out.get(layer_name(node), 0) + count
    return out


def accuracy_of(model: ir.Model, net: Net, data: Split) -> float:
    """Top-1 accuracy of a classifier's first output, in batches of the size the graph is fixed to."""
    x, y = data
    ((name, shape),) = net.inputs.items()
    runner = session(model)
    kind = input_dtypes(runner)[name].numpy()
    hits, step = 0, shape[0]
    for start in range(0, len(x) - len(x) % step, step):
        logits = runner.run(None, {name: x[start : start + step].astype(kind)})[0]
        hits += int((logits.reshape(step, -1).argmax(axis=1) == y[start : start + step]).sum())
    return hits / (len(x) - len(x) % step)


def _check_delivery(net: Net, delivery: Delivery) -> None:
    """Find out before any work what would fail after it."""
    if delivery.out is not None:
        check_writable(delivery.out)
        for file in (delivery.out / SLIM, delivery.out / TENSORS):
            if net.source is not None and file.exists() and file.samefile(net.source):
                raise BadInput(f"{file}: is the model itself and would be replaced; choose another output folder")
    _check_data(net, delivery.data)


def _check_data(net: Net, data: Split | None) -> None:
    if data is None:
        return
    (shape, *others), x = net.inputs.values(), data[0]
    if others or x.shape[1:] != shape[1:]:
        takes = " and ".join(_specs(net))
        raise BadInput(f"--data: samples of shape {sizes(x.shape[1:])} do not fit {net.name}, which takes {takes}")
    if len(x) < shape[0]:
        raise BadInput(
            f"--data: has {len(x)} samples, fewer than one batch of {shape[0]}; give more, or a smaller --input"
        )


@contextmanager
def _explained(advice: str) -> Iterator[None]:
    """Say what a failed verification means to whoever asked for it."""
    try:
        yield
    except VerifyFailed as error:
        raise VerifyFailed(f"{error}; {advice}") from error


def _unranked(names: Sequence[str], method: str) -> list[str]:
    return [f"{name}: {method} cannot rank it, left dense" for name in names]


def _real_inputs(net: Net, data: Split | None) -> list[Feeds] | None:
    """Up to three batches of real data to verify on."""
    if data is None:
        return None
    ((name, shape),) = net.inputs.items()
    batches = min(3, len(data[0]) // shape[0])
    x = data[0][: batches * shape[0]].astype(input_dtypes(net)[name].numpy())
    return [{name: part} for part in np.split(x, batches)]


def _probe(net: Net) -> Any:
    """Runs a model for some of its inner values on two random inputs."""

    def run(model: ir.Model, names: list[str]) -> list[list[npt.NDArray[Any]]]:
        copy = model.clone()
        found = {v.name: v for node in copy.graph for v in node.outputs}
        found |= {v.name: v for v in copy.graph.inputs}
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(found[name] for name in names)
        runner = session(copy)
        return [runner.run(None, random_inputs(net, net.inputs, seed)) for seed in (0, 1)]

    return run


def _never_empty(traced: Trace, removed: Bools) -> Bools:
    """Bring back one unit where an axis would be empty."""
    removed = removed.copy()
    for axis in traced.axes:
        if len(axis.units) and (axis.units >= 0).all() and removed[axis.units].all():
            removed[axis.units[0]] = False
    return removed


def _save_torch(net: Net, plan: Any, slim: ir.Model, path: Path) -> dict[str, Any]:
    """Write the slim module if the original class can carry the widths; else say which module cannot."""
    from slimnet.io.torch_follow import CannotSlim
    from slimnet.io.torch_slim import save_slim, slim_module, slim_module_survives

    assert net.torch is not None
    try:
        module, _ = slim_module(net.torch, plan)
        survives, why = slim_module_survives(module, slim, random_inputs(net, net.inputs))
        if survives:
            save_slim(net, plan, path)
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
