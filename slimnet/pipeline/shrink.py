"""Remove the channels of a network that are zero already."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.gather import gather as gathered
from slimnet.graph.net import Net
from slimnet.graph.shrink import absorb as folded
from slimnet.graph.shrink import shrinkable
from slimnet.pipeline.config import ModelConfig, RunConfig
from slimnet.pipeline.decision import PruningDecision
from slimnet.pipeline.export import carry_out, prepared
from slimnet.pipeline.load import load_network, with_data
from slimnet.report.summary import Report
from slimnet.runtime.backend import Backend, RunFailed, tap
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.branches import in_every_branch


def shrink_file(
    model: ModelConfig, run: RunConfig, clock: Clock, *, absorb: bool, assume_masked: bool, gather: bool
) -> Report:
    """Remove the channels of a file that are zero already: see `shrink`."""
    net = load_network(model, clock)
    return shrink(net, with_data(run, net), absorb=absorb, assume_masked=assume_masked, gather=gather, clock=clock)


def shrink(
    net: Net,
    run: RunConfig | None = None,
    *,
    absorb: bool = False,
    assume_masked: bool = False,
    gather: bool = False,
    clock: Clock | None = None,
) -> Report:
    """Remove the channels of a network that are zero already.

    Args:
        net: The network, which some tool has masked.
        run: The run config: where the results go, and what is measured.
        absorb: Whether to fold the constants that zero filters leave behind into the next biases first, where that is
            exact.
        assume_masked: Whether to remove zero filters too whose bias or batch norm leaves a constant; the difference is
            reported.
        gather: Whether to skip positions of an input that all readers multiply by zero, by a Gather in front of them.
        clock: The clock that times the steps.

    Raises:
        BadInput: no channel is zero, and there is nothing to skip if that is asked for.
        VerifyFailed: the outputs differ; nothing is written.
    """
    # What is zero goes, and nothing else changes.
    run = prepared(net, replace(run or RunConfig(), recover=False))
    clock, notes = clock or Clock(), []
    original = net
    if absorb:
        with clock("absorb"):
            net, count = folded(net, _probe(net, run.backend))
        notes.append(f"absorbed {count} constant input channels into biases")
    with clock("trace"):
        found = shrinkable(net, assume_masked)
    for name, count in found.constant.items():
        notes.append(f"{name}: {count} zero filters leave a constant (bias or batch norm); --absorb or --assume-masked")
    if not found.removed.any() and not (gather and gathered(net.model)[1]):
        unread = ", and no layer skips enough of what it reads" if gather else ""
        raise BadInput(f"{net.name}: no channel is zero everywhere it matters{unread}. {'; '.join(notes)}".rstrip(". "))
    decision = PruningDecision.already_zero(
        found, original, notes, absorb=absorb, assume_masked=assume_masked, gather=gather
    )
    return carry_out(decision, run, clock)


def _probe(net: Net, backend: Backend = DEFAULT) -> Any:
    """Runs a model for some of its inner values on two random inputs, and in every branch."""
    feeds = [random_inputs(net, net.inputs, seed) for seed in (0, 1)]

    def run(model: ir.Model, names: list[str]) -> list[list[npt.NDArray[Any]]]:
        session = tap(model, names, backend)
        found = [session.run(feed) for feed in feeds]
        for _, (branch,) in in_every_branch(model):
            with suppress(RunFailed):  # a branch for other inputs
                session = tap(branch, names, backend)
                found += [session.run(feed) for feed in feeds]
        return found

    return run
