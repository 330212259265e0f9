"""Remove what a plan or masks say, and check a slim file against its plan."""

from __future__ import annotations

from pathlib import Path

from slimnet.common.clock import Clock
from slimnet.common.inputs import specs
from slimnet.data.load import Data
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.plan import Plan
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.io.onnx_file import load_onnx
from slimnet.pipeline.export import Decision, Delivery, check_delivery, deliver, explained
from slimnet.pipeline.masks import masked_units, read_masks
from slimnet.report.summary import Report
from slimnet.runtime.accuracy import real_inputs
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.verify import Verification, verify


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
    backend: Backend = DEFAULT,
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
        return verify(traced, removed, candidate, real_inputs(net, data), runs, backend, prove, progress=progress)


def _traced_for(net: Net, path: Path, clock: Clock) -> tuple[Trace, Bools, Plan]:
    """Trace a network the way it was traced for a plan."""
    plan = Plan.load(path)
    with clock("trace"):
        traced = trace(net, bool(plan.how.get("allow_inexact")), plan.how.get("prefer"))
    return traced, traced.removed(plan), plan
