"""Quantise and dequantise: scale and zero point travel along their axis; zero means the zero point."""

import numpy as np

from slimnet.graph.op import Op, Result, Role, Unsupported
from slimnet.graph.registry import rule


@rule("QuantizeLinear", "DequantizeLinear")
def quantize(op: Op) -> Result:
    """Y = X / scale + zero_point, or back; per tensor or along one axis."""
    if op.attr("block_size", 0):
        raise Unsupported("blockwise quantisation")
    axes = op.axes(0)
    along: int | None = None
    for i in (1, 2):
        if not op.has(i):
            continue
        if op.rank(i) == 1 and op.shape(i)[0] > 1:
            along = op.attr("axis", 1) % len(axes)
            op.role(i, 0, Role.UNTOUCHED, "scale" if i == 1 else "zero_point")
            op.untouched(i)
            ids = op.axis(i, 0)
            op.same(ids, axes[along])
        elif op.rank(i):
            op.axis(i, 0)
    _remember_zero_point(op, along)
    return [axes]


def _remember_zero_point(op: Op, along: int | None) -> None:
    """A mask writes the zero point, not the number 0, into a quantised weight."""
    if op.kind == "DequantizeLinear" and op.parameter(0):
        zero_point = op.data(2) if op.has(2) else np.zeros((), np.int8)
        if zero_point is None:
            raise Unsupported("its zero point is not constant")
        op.zero_point(0, zero_point, along)
