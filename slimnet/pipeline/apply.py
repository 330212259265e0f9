"""Remove what a plan or masks say."""

from __future__ import annotations

from pathlib import Path

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.net import Net
from slimnet.graph.plan import Plan
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.pipeline.config import ModelConfig, RunConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.pipeline.export import PLAN, carry_out, prepared
from slimnet.pipeline.load import load_network, with_data
from slimnet.pipeline.masks import masked_units, read_masks
from slimnet.report.summary import Report


def slim_file(model: ModelConfig, plan: Path | None, mask: Path | None, run: RunConfig, clock: Clock) -> Report:
    """Remove from a file what a plan.json or the masks in an .npz file say (see `masks.read_masks`).

    Raises:
        BadInput: neither or both are given, or they do not fit the network.
        VerifyFailed: slim and mask differ; nothing is written.
    """
    if (plan is None) == (mask is None):
        raise BadInput("slim needs one of `plan=plan.json` and `mask=masks.npz`")
    net = load_network(model, clock)
    run = prepared(net, with_data(run, net))
    decision = _planned(net, plan, clock) if plan is not None else _masked(net, Path(str(mask)), clock)
    return carry_out(decision, run, clock)


def recover_file(model: ModelConfig, plan: Path, run: RunConfig, clock: Clock) -> Report:
    """Carry out a plan again, with the weights that it keeps fitted to what the dense network gives on inputs.

    Args:
        model: The dense network.
        plan: The folder of an earlier run, its plan.json, or the masks of another tool in an .npz file.
        run: The run config; its `calib`, or else the training split of its `data`, are the inputs.
        clock: The clock that times the steps.

    Raises:
        BadInput: there are no inputs, or something does not fit the network.
        VerifyFailed: slim and mask differ; nothing is written.
    """
    file = plan / PLAN if plan.is_dir() else plan
    net = load_network(model, clock)
    run = prepared(net, with_data(run, net))
    if run.calib is None:
        raise BadInput("recovery needs inputs: give `calib`, or `data` with a training split")
    decision = _masked(net, file, clock) if file.suffix == ".npz" else _planned(net, file, clock)
    return carry_out(decision, run, clock)


def _planned(net: Net, path: Path, clock: Clock) -> PruningDecision:
    traced, plan = traced_for(net, path, clock)
    return PruningDecision.planned(traced, plan)


def _masked(net: Net, path: Path, clock: Clock) -> PruningDecision:
    masks = read_masks(path, net)
    with clock("trace"):
        traced, removed = masked_units(net, masks)
    return PruningDecision.masked(traced, removed, net)


def traced_for(net: Net, path: Path, clock: Clock) -> tuple[Trace, Plan]:
    """Trace a network the way it was traced for a plan."""
    plan = Plan.load(path)
    with clock("trace"):
        how = plan.provenance
        return trace(net, bool(how.get("allow_inexact")), how.get("prefer")), plan
