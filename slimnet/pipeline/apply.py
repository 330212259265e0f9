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
from slimnet.pipeline.export import carry_out, prepared
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
