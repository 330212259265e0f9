"""Remove the channels of a network that are zero already."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.net import Net
from slimnet.graph.shrink import absorb, shrinkable
from slimnet.pipeline.export import Decision, Delivery, check_delivery, deliver
from slimnet.report.summary import Report
from slimnet.runtime.backend import Backend, tap
from slimnet.runtime.feeds import random_inputs


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
            net, count = absorb(net, _probe(net, delivery.backend))
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


def _probe(net: Net, backend: Backend) -> Any:
    """Runs a model for some of its inner values on two random inputs."""

    def run(model: ir.Model, names: list[str]) -> list[list[npt.NDArray[Any]]]:
        session = tap(model, names, backend)
        return [session.run(random_inputs(net, net.inputs, seed)) for seed in (0, 1)]

    return run
