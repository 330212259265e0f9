"""The jobs behind the verbs: choose what goes, and have it delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from slimnet.clock import Clock
from slimnet.delivery import (
    Decision,
    Delivery,
    check_delivery,
    deliver,
    explained,
    macs_by_layer,
    real_inputs,
)
from slimnet.errors import BadInput
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.optimise import optimise
from slimnet.graph.shrink import absorb, shrinkable
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.data import Data
from slimnet.io.inputs import specs
from slimnet.io.onnx_file import load_onnx
from slimnet.masks import masked_units, read_masks
from slimnet.planning.plan import Plan
from slimnet.report.summary import Report
from slimnet.timing.baseline import save as save_baseline
from slimnet.timing.conditions import as_net
from slimnet.timing.result import BenchResult
from slimnet.timing.run import bench, check_alike
from slimnet.timing.session import random_inputs, tap
from slimnet.verification import Verification, index_bounds, verify


def shrink(
    net: Net,
    delivery: Delivery | None = None,
    *,
    fold: bool = False,
    assume_masked: bool = False,
    skip_inputs: bool = False,
    clock: Clock | None = None,
) -> Report:
    """Remove the channels of a network that are zero already.

    Args:
        net: a network some tool has masked.
        delivery: where the results go.
        fold: first fold the constants that zero filters leave behind into the next biases, where that is exact.
        assume_masked: also remove zero filters whose bias or batch norm leaves a constant; the difference is reported.
        skip_inputs: also skip positions of an input that all readers multiply by zero, by a Gather in front of them.
        clock: times the steps.
    """
    delivery, clock = delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
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
    if not found.removed.any() and not skip_inputs:
        raise BadInput(f"{net.name}: no channel is zero everywhere it matters. {'; '.join(notes)}".rstrip(". "))
    how = {"method": "shrink", "assume_masked": assume_masked, "absorb": fold}
    decision = Decision(
        found.trace, found.removed, how, notes, original=original, unchanged=not assume_masked, gather=skip_inputs
    )
    return deliver(decision, delivery, clock)


def slim_planned(net: Net, path: Path, delivery: Delivery | None = None, clock: Clock | None = None) -> Report:
    """Remove what a plan.json says."""
    delivery, clock = delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
    traced, removed, plan = _traced_for(net, path, clock)
    return deliver(Decision(traced, removed, plan.how), delivery, clock)


def slim_masked(net: Net, path: Path, delivery: Delivery | None = None, clock: Clock | None = None) -> Report:
    """Remove what the masks in an .npz file say (see `masks.read_masks`)."""
    delivery, clock = delivery or Delivery(), clock or Clock()
    check_delivery(net, delivery)
    masks = read_masks(path, net)
    with clock("trace"):
        traced, removed = masked_units(net, masks)
    return deliver(Decision(traced, removed, {"method": "mask"}, original=net.model), delivery, clock)


def verify_files(
    net: Net,
    slim: Path,
    plan: Path,
    data: Data | None = None,
    runs: int = 3,
    threads: int | None = None,
    prove: bool = True,
    clock: Clock | None = None,
) -> Verification:
    """Check a slim.onnx against the dense network and the plan that led to it."""
    clock = clock or Clock()
    traced, removed, _ = _traced_for(net, plan, clock)
    candidate = load_onnx(slim, specs(net.inputs)).model
    if data is not None:
        data.test.check(net)
    with clock("verify") as progress, explained(f"is {slim} what {plan} makes of {net.source or net.name}?"):
        return verify(traced, removed, candidate, real_inputs(net, data), runs, threads, prove, progress=progress)


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


def _probe(net: Net) -> Any:
    """Runs a model for some of its inner values on two random inputs."""

    def run(model: ir.Model, names: list[str]) -> list[list[npt.NDArray[Any]]]:
        runner = tap(model, names)
        return [runner.run(None, random_inputs(net, net.inputs, seed)) for seed in (0, 1)]

    return run
