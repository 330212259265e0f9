"""Prove that the slim network computes what the masked one computes, and that the proof could have failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from slimnet.common.errors import VerifyFailed
from slimnet.common.files import existing_file
from slimnet.graph.axes import Bools
from slimnet.graph.optimise import optimise
from slimnet.graph.registry import Trait, traits_of
from slimnet.graph.surgery import mask, slim
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.branches import in_every_branch, named
from slimnet.verification.comparison import PROOF_FACTOR, ROUNDING_FACTOR, Comparison, Difference
from slimnet.verification.distance import distance
from slimnet.verification.draws import RUNS, draws
from slimnet.verification.observe import Arrays, watched
from slimnet.verification.proof import prove as prove_groups
from slimnet.verification.silent import silent_changes

#: Largest deviation accepted, relative to the slice of the masked network's output that it is found in.
TOLERANCE = 1e-4
TOLERANCE_HALF = 1e-2


@dataclass
class Verification:
    """What comparing a slim network with the masked one gave.

    Attributes:
        max_abs_error: The largest difference at any output.
        max_rel_error: The largest difference relative to its slice: to the largest masked value of the same channel,
            row or column.
        tolerance: The largest `max_rel_error` that is accepted.
        exact: Whether the difference stayed within the tolerance, on finite values only.
        runs: The number of different inputs.
        inputs: What they were: "given", "normal", "0 to 1", "0 to 255", or other sizes such as "x=3x8"; and branches
            that were forced, such as "If y: then".
        behind: The inner values that were compared besides the outputs, because an output does not show all of them.
        rounding: By how much rounding alone moves the masked network, relative to the slice that it moves most;
            None where the difference stayed within the tolerance without asking.
        unsettled: The outputs and inner values that rounding alone decides for some of the inputs, such as boxes of
            which two are as likely; for those inputs they are not compared.
        proven: The groups whose kept units change the outputs visibly.
        inside: Those of them whose kept units show where they are read, and are lost in rounding at the outputs.
        perturbed: Those of them that show only with larger random weights in one kept unit, with which masked and slim
            are equal as well.
        unproven: The groups for which equality says nothing, because no kept unit changes anything.
        plain_mask_error: With inexact removal, the relative distance to the masked network without its wrapping.
        dense_error: The relative distance to the network as it was before, where that was asked for.
    """

    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    tolerance: float = TOLERANCE
    exact: bool = False
    runs: int = 0
    inputs: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    rounding: float | None = None
    unsettled: list[str] = field(default_factory=list)
    proven: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    perturbed: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    plain_mask_error: float | None = None
    dense_error: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for report.json."""
        return asdict(self)


def verify(
    trace: Trace,
    removed: Bools,
    candidate: ir.Model | Path | None = None,
    inputs: Iterable[Feeds] | None = None,
    runs: int = RUNS,
    backend: Backend = DEFAULT,
    prove: bool = True,
    original: ir.Model | None = None,
    unchanged: bool = False,
    foreign: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Verification:
    """Compare a slim network with the masked dense one.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        candidate: The network to check, such as the file that is shipped; the result of `slim` if None.
        inputs: Real inputs, which come first; the random ones (integers below the row count of the table they index)
            follow.
        runs: The number of standard normal inputs; other ranges, a third as many of each, and other sizes follow them
            unless it is 0. `THOROUGH` ones are for a candidate that somebody else may have changed.
        backend: What runs the networks.
        prove: Also show, group by group, that zeroing a kept unit would have been noticed.
        original: Also measure the distance to this network, as it was before anybody masked it.
        unchanged: The slim network must compute what `original` computes.
        foreign: Somebody else may have changed the candidate: weights of it that are not as made, although no input
            shows it, fail as well.
        progress: Called with the fraction done.

    Returns:
        What was measured.

    Raises:
        VerifyFailed: The outputs differ, or the slim network does not run.
    """
    masked, pruned = mask(trace, removed), slim(trace, removed)
    shipped = _loaded(candidate, pruned)
    watch = watched(trace, removed, masked, shipped)
    comparison = Comparison(trace, masked, watch, draws(trace, inputs, runs), _tolerance(trace), backend)
    actual = comparison.outputs_of(shipped, "the slim network", file=candidate if isinstance(candidate, Path) else None)
    result = Verification(
        tolerance=comparison.tolerance,
        runs=len(comparison.draws),
        inputs=list(dict.fromkeys(draw.what for draw in comparison.draws)),
        behind=list(watch.masked),
    )
    _judge(comparison, shipped, actual, result, foreign)
    _judge_branches(trace, masked, shipped, comparison, backend, result, foreign)
    if foreign:
        _judge_weights(comparison, shipped, pruned)
    if prove:
        proof = prove_groups(trace, removed, masked, pruned, comparison, backend, progress)
        result.proven, result.unproven = proof.proven, proof.unproven
        result.inside, result.perturbed = proof.inside, proof.perturbed
    if trace.is_inexact:
        plain = comparison.outputs_of(mask(trace, removed, wrap=False), "the masked network", watched=False)
        result.plain_mask_error = max(
            distance(p, w[: len(p)])[1] for p, w in zip(plain, comparison.expected, strict=True)
        )
    if original is not None:
        _measure_distance(comparison, original, actual, result, unchanged)
    return result


def _loaded(candidate: ir.Model | Path | None, pruned: ir.Model) -> ir.Model:
    if candidate is None or isinstance(candidate, ir.Model):
        return candidate or pruned
    return ir.load(existing_file(candidate))


def _judge(comparison: Comparison, slim: ir.Model, actual: list[Arrays], result: Verification, foreign: bool) -> None:
    """Decide whether outputs are equal; only where that is in question is the floor of rounding measured."""
    measured, apart = comparison.judged(slim, actual)
    result.max_abs_error, result.max_rel_error = measured.absolute, measured.relative
    result.unsettled = comparison.unsettled
    if comparison.rounding is not None:
        _allow(comparison.rounding, result)
    result.exact = apart.relative <= comparison.tolerance
    if not result.exact:
        raise VerifyFailed(_failure(comparison, measured, apart, foreign))


def _judge_branches(
    trace: Trace,
    masked: ir.Model,
    slim: ir.Model,
    outer: Comparison,
    backend: Backend,
    result: Verification,
    foreign: bool,
) -> None:
    """Compare branches that what is computed decides over, whether or not an input takes them."""
    for choice, (ours, theirs) in in_every_branch(masked, slim):
        try:
            comparison = Comparison(trace, ours, outer.watch, outer.usual_draws[:RUNS], outer.tolerance, backend)
        except VerifyFailed:
            continue  # a branch for other inputs, such as none detected
        what = f"the slim network ({named(choice)})"
        measured, apart = comparison.judged(theirs, comparison.outputs_of(theirs, what))
        if apart.relative > comparison.tolerance:
            raise VerifyFailed(_failure(comparison, measured, apart, foreign, what))
        result.inputs.append(named(choice))


def _judge_weights(comparison: Comparison, slim: ir.Model, pruned: ir.Model) -> None:
    """Look for weights that are wrong although no input shows it."""
    for name, apart in silent_changes(comparison, slim, (pruned, optimise(pruned))).items():
        raise VerifyFailed(
            f"{comparison.title}: the weight {name} of the slim network differs by {apart:.1e} of its largest element "
            "from what the plan makes of it, although none of the inputs shows it"
        )


def _allow(rounding: float, result: Verification) -> None:
    """Accept what rounding alone may do."""
    result.rounding = rounding
    result.tolerance += ROUNDING_FACTOR * rounding


def _failure(
    comparison: Comparison,
    measured: Difference,
    apart: Difference,
    foreign: bool,
    what: str = "the slim network",
) -> str:
    """What to say of a difference, with the network's own sensitivity to rounding where that is the likely cause."""
    text = (
        f"{comparison.title}: {what} differs from the masked one by {measured.relative:.2e} "
        f"(tolerance {comparison.tolerance:.0e}) at {apart.where} for inputs {apart.what}"
    )
    random = comparison.random_nodes
    if random:
        nodes = ", ".join(random[:3])
        return f"{text}. It draws random numbers ({nodes}), so that no two runs are alike: export it without"
    rounding = comparison.rounding or 0.0
    if rounding > comparison.tolerance / PROOF_FACTOR:
        return f"{text}. Rounding alone moves this network by {rounding:.0e}: are its weights trained?"
    return text if foreign else f"{text}. Please report the model"


def _measure_distance(
    comparison: Comparison, original: ir.Model, actual: list[Arrays], result: Verification, unchanged: bool
) -> None:
    before = comparison.outputs_of(original, comparison.title, watched=False)
    result.dense_error = max(distance(b, a[: len(b)])[1] for b, a in zip(before, actual, strict=True))
    if unchanged and result.dense_error > result.tolerance and comparison.rounding is None:
        _allow(comparison.learn_rounding(), result)
    if unchanged and result.dense_error > result.tolerance:
        raise VerifyFailed(
            f"{comparison.title}: removing what is zero changed the outputs by {result.dense_error:.2e} "
            f"(tolerance {result.tolerance:.0e})"
        )


def _tolerance(trace: Trace) -> float:
    """The tolerance for what the network computes with: a half-precision number that is only stored does not count."""
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    for node in trace.net.model.graph.all_nodes():
        made = [value for value in node.outputs if not trace.is_constant(value)]
        read = [] if Trait.MOVES in traits_of(node) else [value for value in node.inputs if value is not None]
        if made and any(value.dtype in half for value in (*made, *read)):
            return TOLERANCE_HALF
    return TOLERANCE
