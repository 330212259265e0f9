"""Prove that the slim network computes what the masked one computes, and that the proof could have failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import VerifyFailed
from slimnet.graph.axes import Bools
from slimnet.graph.surgery import mask, slim
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Backend, Feeds, RunFailed
from slimnet.runtime.feeds import index_bounds, random_inputs
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.distance import distance, is_numeric
from slimnet.verification.proof import PROOF_FACTOR
from slimnet.verification.proof import prove as prove_groups

#: Largest deviation accepted, relative to the largest output of the masked network.
TOLERANCE = 1e-4
TOLERANCE_HALF = 1e-2


@dataclass
class Verification:
    """What comparing a slim network with the masked one gave.

    Attributes:
        max_abs_error: The largest difference at any output.
        max_rel_error: The same relative to the largest masked output.
        tolerance: The largest `max_rel_error` that is accepted.
        exact: Whether the difference stayed within the tolerance, on finite values only.
        runs: The number of different inputs.
        proven: The groups whose kept units change the outputs visibly.
        unproven: The groups for which equality says nothing, because no kept unit changes the outputs.
        plain_mask_error: With inexact removal, the relative distance to the masked network without its wrapping.
        dense_error: The relative distance to the network as it was before, where that was asked for.
    """

    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    tolerance: float = TOLERANCE
    exact: bool = False
    runs: int = 0
    proven: list[str] = field(default_factory=list)
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
    runs: int = 3,
    backend: Backend = DEFAULT,
    prove: bool = True,
    original: ir.Model | None = None,
    unchanged: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Verification:
    """Compare a slim network with the masked dense one.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        candidate: The network to check, such as the file that is shipped; the result of `slim` if None.
        inputs: Real inputs; random ones if None (integers below the row count of the table they index).
        runs: The number of random inputs.
        backend: What runs the networks.
        prove: Also show, group by group, that zeroing a kept unit would have been noticed.
        original: Also measure the distance to this network, as it was before anybody masked it.
        unchanged: The slim network must compute what `original` computes.
        progress: Called with the fraction done.

    Returns:
        What was measured.

    Raises:
        VerifyFailed: The outputs differ, or the slim network does not run.
    """
    pruned = slim(trace, removed)
    feeds = list(inputs) if inputs is not None else _random(trace, runs)
    result = Verification(tolerance=_tolerance(trace), runs=len(feeds))
    expected = _outputs(mask(trace, removed), feeds, backend, "the masked network")
    actual = _outputs(pruned if candidate is None else candidate, feeds, backend, "the slim network")
    if not any(np.isfinite(x.astype(np.float64)).any() for outputs in expected for x in outputs if is_numeric(x)):
        raise VerifyFailed(
            f"{trace.net.name}: every output is NaN or infinite, so nothing can be compared; give real inputs (`data`)"
        )
    for want, got in zip(expected, actual, strict=True):
        absolute, relative = distance(want, got)
        result.max_abs_error = max(result.max_abs_error, absolute)
        result.max_rel_error = max(result.max_rel_error, relative)
    result.exact = result.max_rel_error <= result.tolerance
    if not result.exact:
        raise VerifyFailed(_failure(trace, removed, feeds, expected, result, backend))
    if prove:
        result.proven, result.unproven = prove_groups(
            trace, removed, pruned, feeds[0], expected[0], result.tolerance, backend, progress
        )
    if trace.is_inexact:
        plain = _outputs(mask(trace, removed, wrap=False), feeds, backend, "the masked network")
        result.plain_mask_error = max(distance(p, w)[1] for p, w in zip(plain, expected, strict=True))
    if original is not None:
        before = _outputs(original, feeds, backend, trace.net.name)
        result.dense_error = max(distance(b, a)[1] for b, a in zip(before, actual, strict=True))
        if unchanged and result.dense_error > result.tolerance:
            raise VerifyFailed(
                f"{trace.net.name}: removing what is zero changed the outputs by {result.dense_error:.2e} "
                f"(tolerance {result.tolerance:.0e})"
            )
    return result


def _failure(
    trace: Trace,
    removed: Bools,
    feeds: Sequence[Feeds],
    expected: Sequence[Sequence[npt.NDArray[Any]]],
    result: Verification,
    backend: Backend,
) -> str:
    """What to say of a difference, with the network's own sensitivity to rounding where that is the likely cause."""
    text = (
        f"{trace.net.name}: the slim network differs from the masked one by {result.max_rel_error:.2e} "
        f"(tolerance {result.tolerance:.0e})"
    )
    plain = _outputs(mask(trace, removed), feeds[:1], backend, "the masked network", optimise=False)
    noise = distance(expected[0], plain[0])[1]
    if noise > result.tolerance / PROOF_FACTOR:
        return f"{text}. Rounding alone moves this network by {noise:.0e}: are its weights trained?"
    return f"{text}. Please report the model"


def _random(trace: Trace, runs: int) -> list[Feeds]:
    bounds = index_bounds(trace)
    return [random_inputs(trace.net, trace.net.inputs, seed, bounds) for seed in range(runs)]


def _tolerance(trace: Trace) -> float:
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    tensors = (v.const_value for v in trace.net.model.graph.initializers.values())
    return TOLERANCE_HALF if any(t is not None and t.dtype in half for t in tensors) else TOLERANCE


def _outputs(
    model: ir.Model | Path, feeds: Sequence[Feeds], backend: Backend, what: str, optimise: bool = True
) -> list[list[npt.NDArray[Any]]]:
    try:
        session = backend.session(model, optimise)
        return [session.run(feed) for feed in feeds]
    except RunFailed as failure:
        raise VerifyFailed(f"{what} does not run: {failure.reason}") from failure
