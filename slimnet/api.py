"""The steps of a run as functions, for people with their own training loop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.graph import surgery
from slimnet.graph.axes import Bools
from slimnet.graph.optimise import optimise
from slimnet.graph.plan import Plan
from slimnet.graph.units import Trace
from slimnet.io.onnx_file import save_onnx
from slimnet.methods import Scores, create
from slimnet.methods.base import Budget, Normalise, scored
from slimnet.methods.registry import canonical
from slimnet.planning.budget import choose
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT
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
    """Choose what goes.

    Args:
        trace: of the dense network.
        method: name of a criterion, or FILE.py:CLASS for one of your own; `options` are its hyper-parameters.
        ratio: fraction of the removable channels to take, in (0, 1).
        scope: "layer", "global" or "isomorphic".
        round_to: N aligns widths to multiples of N, "auto" to what the runtime here likes, None leaves them.
        ratio_for: (pattern, ratio) pairs for single groups.
        ignore: patterns of groups that stay dense.
        coupled: false leaves groups with several producing layers (residual streams) dense, as most papers do.

    Returns:
        The plan. Raises BadInput for options that do not fit the network.
    """
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
    """The budget of a training method: turns scores into what goes, one bool [units] per group.

    The arguments are those of `plan`; `coupled` false leaves residual streams dense.
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
    """The plan a training method has come to. Raises BadInput where it sets single weights to zero instead."""
    gone = method.removed()
    if gone is None:
        raise BadInput(f"{type(method).__name__} gives masks(); multiply them in, load the module and use shrink")
    return trace.plan(trace.from_groups(gone), {"method": type(method).__name__})


def mask(trace: Trace, plan: Plan) -> ir.Model:
    """The dense network with everything the plan removes set to zero."""
    return surgery.mask(trace, trace.removed(plan))


def slim(trace: Trace, plan: Plan) -> ir.Model:
    """The network with everything the plan removes gone."""
    return surgery.slim(trace, trace.removed(plan))


def verify(
    trace: Trace,
    plan: Plan,
    model: ir.Model | str | os.PathLike[str] | None = None,
    inputs: Iterable[Feeds] | None = None,
    *,
    runs: int = 3,
    backend: Backend = DEFAULT,
    prove: bool = True,
) -> Verification:
    """Compare a slim network with the masked one.

    Args:
        trace: of the dense network.
        plan: what was removed.
        model: the slim network or its file; what `slim` makes of the plan if None.
        inputs: real inputs by name; `runs` random ones if None.
        backend: what runs both; onnxruntime on the CPU if not given.
        prove: also show, group by group, that zeroing a kept unit would have been noticed.

    Returns:
        What was measured. Raises VerifyFailed if the outputs differ.
    """
    candidate = model if model is None or isinstance(model, ir.Model) else Path(model)
    return verify_units(trace, trace.removed(plan), candidate, inputs, runs, backend, prove)


def export(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Optimise a network, check it with onnx.checker and write it; the file appears whole or not at all."""
    save_onnx(optimise(model), path)
