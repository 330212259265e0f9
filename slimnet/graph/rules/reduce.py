"""Reductions: sums do not see zeros, means and extrema do."""

import numpy as np

from slimnet.graph.axes import fixed, not_zero
from slimnet.graph.op import Axes, Op, Result, Unsupported
from slimnet.graph.registry import Trait, describe, rule

_SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_LOSE_ZERO = ("ReduceLogSum", "ReduceLogSumExp")


@rule(*_SUMS, *_LOSE_ZERO, "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
def reduction(op: Op) -> Result:
    axes = op.axes(0)
    given = op.ints(1, "axes")
    if given is None and op.has(1):
        raise Unsupported("its axes are not constant")
    if not given and op.attr("noop_with_empty_axes", 0):
        return [axes]
    reduced = {k % len(axes) for k in given} if given else set(range(len(axes)))
    for k in reduced:
        if op.kind in _SUMS:
            op.vanish(axes[k], "is summed over although it does not become zero")
        else:
            op.inexact(f"goes through {op.kind}", axes[k], [(0, k)])
    for k, labels in enumerate(axes):
        if op.kind == "ReduceLogSum" and k not in reduced:
            op.pin(labels[labels > 0], "is not finite at zero")
    return [_reduced(op, axes, reduced)]


def _reduced(op: Op, axes: Axes, reduced: set[int]) -> Axes:
    keep = op.attr("keepdims", 1)
    rest = [fixed(1) if k in reduced else labels for k, labels in enumerate(axes) if keep or k not in reduced]
    return [not_zero(labels) for labels in rest] if op.kind in _LOSE_ZERO else rest


describe("Shape", "Size", traits=Trait.MEASURES)
describe("TopK", "NonZero", "NonMaxSuppression", "Unique", "Compress", traits=Trait.HIDES)


@rule("ArgMax", "ArgMin", traits=Trait.HIDES)
def arg(op: Op) -> Result:
    """A position on the axis, which is pinned."""
    along = op.attr("axis", 0) % op.rank(0)
    op.pin(op.axis(0, along), "is searched for a position")
    return [[not_zero(labels) for labels in _reduced(op, op.axes(0), {along})]]


@rule("CumSum")
def cumsum(op: Op) -> Result:
    axis = op.data(1)
    if axis is None:
        raise Unsupported("its axis is not constant")
    k = int(np.asarray(axis).item()) % op.rank(0)
    op.pin(op.axis(0, k), "is summed up along")
    return [op.axes(0)]
