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
from slimnet.verification.draws import RUNS, Draw, covering, draws
from slimnet.verification.observe import Arrays, watched
from slimnet.verification.proof import prove as prove_groups
from slimnet.verification.silent import silent_changes, unlike_bodies, unlike_tables

#: Largest deviation accepted, relative to the slice of the masked network's output that it is found in.
TOLERANCE = 1e-4
TOLERANCE_HALF = 1e-2
#: So many sets of inputs are compared at once where they have to read every row of a table.
CHUNK = 64


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
        not_compared: What nothing was said of: branches that do not run on these inputs, and of a file from somebody
            else the parts that are not as the plan makes them and that no input reaches.
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
    not_compared: list[str] = field(default_factory=list)
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
        foreign: Somebody else may have changed the candidate: outputs of other names, and weights that are not as made
            although no input shows it, fail as well.
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
    judge = _Judge(trace, backend, result, foreign)
    judge.outputs(comparison, shipped, actual)
    judge.branches(comparison, masked, shipped)
    if foreign:
        judge.names(shipped, pruned)
        judge.unseen(comparison, masked, shipped, pruned)
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


@dataclass(frozen=True)
class _Judge:
    """Decides whether a network may pass for the slim one.

    Attributes:
        trace: The trace of the dense network.
        backend: What runs the networks.
        result: Where it writes what it finds.
        foreign: Whether somebody else may have changed the network.
    """

    trace: Trace
    backend: Backend
    result: Verification
    foreign: bool

    def outputs(self, comparison: Comparison, slim: ir.Model, actual: list[Arrays]) -> None:
        """Decide whether outputs are equal; only where that is in question is the floor of rounding measured."""
        result = self.result
        measured, apart = comparison.judged(slim, actual)
        result.max_abs_error, result.max_rel_error = measured.absolute, measured.relative
        result.unsettled = comparison.unsettled
        if comparison.rounding is not None:
            _allow(comparison.rounding, result)
        result.exact = apart.relative <= comparison.tolerance
        if not result.exact:
            raise VerifyFailed(self._failure(comparison, measured, apart))

    def branches(self, outer: Comparison, masked: ir.Model, slim: ir.Model) -> None:
        """Compare branches that what is computed decides over, whether or not an input takes them."""
        for choice, (ours, theirs) in in_every_branch(masked, slim):
            try:
                comparison = self._another(outer, ours, outer.usual_draws[:RUNS])
            except VerifyFailed:  # a branch for other inputs, such as none detected
                self.result.not_compared.append(f"{named(choice)}, which does not run on these inputs")
                continue
            self._compare(comparison, theirs, f"the slim network ({named(choice)})")
            self.result.inputs.append(named(choice))

    def names(self, slim: ir.Model, pruned: ir.Model) -> None:
        """Make sure that whoever asks for an output by its name gets it."""
        ours, theirs = ([str(value.name) for value in model.graph.outputs] for model in (pruned, slim))
        for k, (want, got) in enumerate(zip(ours, theirs, strict=False)):
            if want != got:
                title = self.trace.net.name
                raise VerifyFailed(f"{title}: output {k} of the slim network is called {got} instead of {want}")

    def unseen(self, outer: Comparison, masked: ir.Model, slim: ir.Model, pruned: ir.Model) -> None:
        """Look for what is wrong although no input shows it."""
        made = (pruned, optimise(pruned))
        for name, apart in silent_changes(outer, slim, made).items():
            raise VerifyFailed(
                f"{outer.title}: the weight {name} of the slim network differs by {apart:.1e} of its largest element "
                "from what the plan makes of it, although none of the inputs shows it"
            )
        tables = unlike_tables(slim, made)
        rows, all_of_them = covering(self.trace) if tables else ([], True)
        for start in range(0, len(rows), CHUNK):
            comparison = self._another(outer, masked, rows[start : start + CHUNK])
            self._compare(comparison, slim, "the slim network")
        unread = [name for name, covered in tables.items() if not (covered and all_of_them)]
        self.result.not_compared += [f"what the inputs do not read of {name}" for name in unread]
        self.result.not_compared += [
            f"the body of {name}, which is not as the plan makes it, where no input enters it"
            for name in unlike_bodies(slim, made)
        ]

    def _another(self, outer: Comparison, masked: ir.Model, inputs: Iterable[Draw]) -> Comparison:
        return Comparison(self.trace, masked, outer.watch, inputs, outer.tolerance, self.backend)

    def _compare(self, comparison: Comparison, slim: ir.Model, what: str) -> None:
        measured, apart = comparison.judged(slim, comparison.outputs_of(slim, what))
        if apart.relative > comparison.tolerance:
            raise VerifyFailed(self._failure(comparison, measured, apart, what))

    def _failure(
        self, comparison: Comparison, measured: Difference, apart: Difference, what: str = "the slim network"
    ) -> str:
        """What to say of a difference, with the network's own sensitivity to rounding where that may be the cause."""
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
        return text if self.foreign else f"{text}. Please report the model"


def _allow(rounding: float, result: Verification) -> None:
    """Accept what rounding alone may do."""
    result.rounding = rounding
    result.tolerance += ROUNDING_FACTOR * rounding


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
