"""Prove that the slim network computes what the masked one computes, and that the proof could have failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from slimnet.common.errors import VerifyFailed
from slimnet.graph.axes import Bools
from slimnet.graph.op import Inexact, Role
from slimnet.graph.surgery import mask, slim
from slimnet.graph.units import Group, Trace
from slimnet.runtime.feeds import Feeds, index_bounds, random_inputs
from slimnet.runtime.session import RUNTIME_ERRORS, reason, session

#: Largest deviation accepted, relative to the largest output of the masked network.
TOLERANCE = 1e-4
TOLERANCE_HALF = 1e-2
#: A zeroed kept unit must show at least this many times the tolerance.
PROOF_FACTOR = 10
#: So many different units of a group are tried before it is called unproven.
PROOF_TRIES = 16


@dataclass
class Verification:
    """What comparing slim and mask gave.

    Attributes:
        max_abs_error: largest difference at any output.
        max_rel_error: the same relative to the largest masked output.
        tolerance: what was accepted for `max_rel_error`.
        exact: whether the difference stayed within the tolerance, on finite values only.
        runs: number of different inputs.
        proven: groups whose kept units change the outputs visibly.
        unproven: groups for which equality says nothing, because no kept unit changes the outputs.
        plain_mask_error: with inexact removal, the relative distance to the masked network without its wrapping.
        dense_error: the relative distance to the network as it was before, where that was asked for.
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
    threads: int | None = None,
    prove: bool = True,
    original: ir.Model | None = None,
    unchanged: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Verification:
    """Compare a slim network with the masked dense one.

    Args:
        trace: of the dense network.
        removed: the removed units.
        candidate: the network to check, such as the file that is shipped; the result of `slim` if None.
        inputs: real inputs; random ones if None (integers below the row count of the table they index).
        runs: number of random inputs.
        threads: of onnxruntime.
        prove: also show, group by group, that zeroing a kept unit would have been noticed.
        original: also measure the distance to this network, as it was before anybody masked it.
        unchanged: the slim network must compute what `original` computes.
        progress: called with the fraction done.

    Raises:
        VerifyFailed: the outputs differ, or the slim network does not run.
    """
    thin = slim(trace, removed)
    feeds = list(inputs) if inputs is not None else _random(trace, runs)
    result = Verification(tolerance=_tolerance(trace), runs=len(feeds))
    expected = _outputs(mask(trace, removed), feeds, threads, "the masked network")
    actual = _outputs(thin if candidate is None else candidate, feeds, threads, "the slim network")
    if not any(np.isfinite(x.astype(np.float64)).any() for outputs in expected for x in outputs):
        raise VerifyFailed(
            f"{trace.net.name}: every output is NaN or infinite, so nothing can be compared; give real inputs (--data)"
        )
    for want, got in zip(expected, actual, strict=True):
        absolute, relative = _distance(want, got)
        result.max_abs_error = max(result.max_abs_error, absolute)
        result.max_rel_error = max(result.max_rel_error, relative)
    result.exact = result.max_rel_error <= result.tolerance
    if not result.exact:
        raise VerifyFailed(_failure(trace, removed, feeds, expected, result, threads))
    if prove:
        _prove(trace, removed, thin, feeds[0], expected[0], result, threads, progress)
    if any(isinstance(edit, Inexact) for edit in trace.edits):
        plain = _outputs(mask(trace, removed, wrap=False), feeds, threads, "the masked network")
        result.plain_mask_error = max(_distance(p, w)[1] for p, w in zip(plain, expected, strict=True))
    if original is not None:
        before = _outputs(original, feeds, threads, trace.net.name)
        result.dense_error = max(_distance(b, a)[1] for b, a in zip(before, actual, strict=True))
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
    threads: int | None,
) -> str:
    """What to say of a difference, with the network's own sensitivity to rounding where that is the likely cause."""
    text = (
        f"{trace.net.name}: the slim network differs from the masked one by {result.max_rel_error:.2e} "
        f"(tolerance {result.tolerance:.0e})"
    )
    plain = _outputs(mask(trace, removed), feeds[:1], threads, "the masked network", optimise=False)
    noise = _distance(expected[0], plain[0])[1]
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
    model: ir.Model | Path, feeds: Sequence[Feeds], threads: int | None, what: str, optimise: bool = True
) -> list[list[npt.NDArray[Any]]]:
    try:
        runner = session(model, threads, optimise)
        return [runner.run(None, dict(feed)) for feed in feeds]
    except RUNTIME_ERRORS as error:
        raise VerifyFailed(f"{what} does not run: {reason(error)}") from error


def _distance(expected: Sequence[npt.NDArray[Any]], actual: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    """Largest absolute difference over all outputs, and the largest relative to its own output's maximum."""
    worst_absolute, worst_relative = 0.0, 0.0
    if len(expected) != len(actual):
        return float("inf"), float("inf")
    for want, got in zip(expected, actual, strict=True):
        if want.shape != got.shape:
            return float("inf"), float("inf")
        if want.size == 0:
            continue
        a, b = want.astype(np.float64), got.astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
            return float("inf"), float("inf")
        if not finite.any():
            continue
        absolute = float(np.abs(a[finite] - b[finite]).max())
        scale = float(np.abs(a[finite]).max())
        worst_absolute = max(worst_absolute, absolute)
        worst_relative = max(worst_relative, absolute / scale if scale else (np.inf if absolute else 0.0))
    return worst_absolute, worst_relative


# -- the proof that the comparison can fail --------------------------------------------------------------------------


def _prove(
    trace: Trace,
    removed: Bools,
    thin: ir.Model,
    feed: Feeds,
    expected: Sequence[npt.NDArray[Any]],
    result: Verification,
    threads: int | None,
    progress: Callable[[float], None] | None,
) -> None:
    """Zero one kept unit of each group in the slim network: the comparison must notice."""
    runner = _Adjustable(trace, removed, thin, threads)
    for done, group in enumerate(trace.groups):
        noticed = False
        for change in runner.zeroings(group):
            error = _distance(expected, runner.run(feed, change))[1]
            if error > PROOF_FACTOR * result.tolerance:
                noticed = True
                break
        (result.proven if noticed else result.unproven).append(group.name)
        if progress is not None:
            progress((done + 1) / len(trace.groups))


class _Adjustable:
    """The slim network with its weights as inputs, so that they can be changed from run to run."""

    def __init__(self, trace: Trace, removed: Bools, thin: ir.Model, threads: int | None) -> None:
        self.keep = ~removed
        keep = trace.keep(removed)
        self.kept = {(s.name, s.axis): keep[np.abs(s.ids)] for s in trace.slots}
        roles = {(s.name, s.axis): role for s, role in zip(trace.slots, trace.roles, strict=True)}
        self.untouched = {key for key, role in roles.items() if role & Role.UNTOUCHED}
        model = thin.clone()
        names = {m.tensor for g in trace.groups for m in g.members}
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self.values: dict[str, ort.OrtValue] = {}
        for name in names & set(model.graph.initializers):
            value = model.graph.initializers[name]
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point():
                continue
            self.weights[name] = np.ascontiguousarray(tensor.numpy())
            self.values[name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(self.weights[name], int(tensor.dtype))
            model.graph.initializers.pop(name)
            value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
            value.const_value = None
            if value not in model.graph.inputs:
                model.graph.inputs.append(value)
        self.session = session(model, threads)
        self.outputs = [o.name for o in self.session.get_outputs()]

    def zeroings(self, group: Group) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Changed weights, each time with the slices of another kept unit set to zero, the heaviest unit first."""
        kept = np.flatnonzero(self.keep[group.units])
        index: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
        weight = np.zeros(len(kept))
        for member in group.members:
            array = self.weights.get(member.tensor)
            key = (member.tensor, member.axis)
            if array is None or key in self.untouched:
                continue
            position = np.cumsum(self.kept[key]) - 1
            index[key] = position[member.index[kept]]
            others = tuple(k for k in range(array.ndim) if k != member.axis)
            sums = np.abs(array, dtype=np.float32).sum(axis=others)
            weight += np.log(sums[index[key]].sum(axis=1) + 1e-30)
        if not index:
            return
        for unit in np.argsort(-weight)[:PROOF_TRIES]:
            change: dict[str, npt.NDArray[Any]] = {}
            for (tensor, axis), where in index.items():
                array = change.get(tensor)
                if array is None:
                    array = change[tensor] = self.weights[tensor].copy()
                array[(slice(None),) * axis + (where[unit],)] = 0
            yield change

    def run(self, feed: Feeds, change: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        fed = {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x)) for name, x in feed.items()}
        changed = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in change.items()}
        return [o.numpy() for o in self.session.run_with_ort_values(self.outputs, self.values | changed | fed)]
