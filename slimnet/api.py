"""The steps of a run as functions, for people with their own training loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from slimnet.common.errors import BadInput, explained
from slimnet.common.inputs import specs
from slimnet.graph import surgery
from slimnet.graph.axes import Bools
from slimnet.graph.optimise import optimise
from slimnet.graph.plan import Plan
from slimnet.graph.trace import current
from slimnet.graph.units import Trace
from slimnet.io.onnx_file import load_onnx, save_onnx
from slimnet.methods import Scores, create
from slimnet.methods.base import Budget, Normalise, scored
from slimnet.methods.registry import canonical
from slimnet.pipeline.recover import fitted_trace
from slimnet.planning.budget import choose
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.draws import THOROUGH
from slimnet.verification.module import check_module
from slimnet.verification.verify import Verification
from slimnet.verification.verify import verify as verify_units

if TYPE_CHECKING:
    from slimnet.methods.training import TrainingMethod


def plan(
    trace: Trace,
    method: str = "l1",
    ratio: float = 0.5,
    *,
    scope: str = "layer",
    round_to: int | str | None = "auto",
    ratio_for: Sequence[tuple[str, float]] = (),
    ignore: Sequence[str] = (),
    coupled: bool = True,
    **options: Any,
) -> Plan:
    """Choose the units to remove by a criterion.

    Args:
        trace: The trace of the dense network.
        method: The name of a criterion, or FILE.py:CLASS for one of your own; `options` are its hyper-parameters.
        ratio: The fraction of the removable channels to remove, in (0, 1).
        scope: Where scores are compared: "layer", "global" or "isomorphic".
        round_to: The alignment of the widths: N for multiples of N, "auto" for what the runtime here computes at once,
            None for any width.
        ratio_for: The (pattern, ratio) pairs of the groups that get a ratio of their own.
        ignore: The patterns of the groups that stay dense.
        coupled: Whether groups with several producing layers (residual streams) are pruned too; most papers leave them
            dense.

    Returns:
        The plan.

    Raises:
        BadInput: the options do not fit the network.
    """
    trace = current(trace)
    scorer = create(method, **options)
    scores = scored(scorer, trace.params(), trace.groups)
    removed = choose(
        trace,
        scores,
        ratio,
        scope=scope,
        ratio_for=ratio_for,
        ignore=ignore,
        round_to=round_to,
        coupled=coupled,
        normalise=scorer.normalise,
    )
    return trace.plan(removed, {"method": canonical(method), "ratio": ratio, "scope": scope, "round_to": round_to})


def picker(
    trace: Trace,
    ratio: float = 0.5,
    *,
    scope: str = "layer",
    round_to: int | str | None = "auto",
    ratio_for: Sequence[tuple[str, float]] = (),
    ignore: Sequence[str] = (),
    coupled: bool = True,
) -> Budget:
    """The budget of a training method: turns scores into the units to remove, one bool [units] per group.

    The arguments are those of `plan`.
    """

    def take(scores: Scores, normalise: Normalise) -> list[Bools]:
        removed = choose(
            trace,
            scores,
            ratio,
            scope=scope,
            round_to=round_to,
            ratio_for=ratio_for,
            ignore=ignore,
            coupled=coupled,
            normalise=normalise,
        )
        return trace.by_group(removed)

    return Budget(take)


def plan_of(trace: Trace, method: TrainingMethod) -> Plan:
    """The plan a training method has come to, by the weights that the traced module has now.

    Raises:
        BadInput: The method sets single weights to zero instead.
    """
    removed = method.removed(current(trace).params())
    if removed is None:
        raise BadInput(f"{type(method).__name__} gives masks(); multiply them in, load the module and use shrink")
    return trace.plan(trace.from_groups(removed), {"method": type(method).__name__})


def mask(trace: Trace, plan: Plan) -> ir.Model:
    """The dense network with everything the plan removes set to zero."""
    return surgery.mask(trace, trace.removed(plan))


def slim(trace: Trace, plan: Plan) -> ir.Model:
    """The network without everything that the plan removes."""
    return surgery.slim(trace, trace.removed(plan))


def verify(
    trace: Trace,
    plan: Plan,
    model: ir.Model | str | os.PathLike[str] | None = None,
    inputs: Iterable[Feeds] | None = None,
    *,
    runs: int = THOROUGH,
    backend: Backend = DEFAULT,
    prove: bool = True,
) -> Verification:
    """Compare a slim network with the masked one.

    Args:
        trace: The trace of the dense network.
        plan: The plan that says what was removed.
        model: The slim network or its file; None takes what `slim` makes of the plan.
        inputs: Real inputs, each a mapping from input names to arrays; None draws random ones.
        runs: The number of standard normal inputs; other ranges and sizes follow them.
        backend: The backend that runs both networks; onnxruntime on the CPU if not given.
        prove: Whether to show, group by group, that zeroing a kept unit would have been noticed.

    Returns:
        The measured differences, and the groups that are proven or not.

    Raises:
        BadInput: the file is missing or no ONNX file, or its inputs are others.
        VerifyFailed: the outputs differ, or a PyTorch module no longer computes what was traced.
    """
    check_module(trace, backend)
    if model is None:
        return verify_units(trace, trace.removed(plan), None, inputs, runs, backend, prove)
    candidate = model if isinstance(model, ir.Model) else load_onnx(model, specs(trace.net.inputs)).model
    with explained(f"is it what the plan makes of {trace.net.source or trace.net.name}?"):
        fitted = fitted_trace(trace, plan)
        return verify_units(fitted, fitted.removed(plan), candidate, inputs, runs, backend, prove, foreign=True)


def export(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Optimise a network, check it with onnx.checker and write it; the file appears whole or not at all."""
    save_onnx(optimise(model), path)
