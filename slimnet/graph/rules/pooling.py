"""Pooling and resizing: channels pass, spatial axes are read, but where windows lie side by side."""

import numpy as np

from slimnet.graph.axes import fixed, not_zero
from slimnet.graph.op import Op, Result, Traced, Unsupported
from slimnet.graph.registry import Trait, rule
from slimnet.graph.rules.window import slid_over


@rule("MaxPool", "GlobalMaxPool", traits=Trait.PICKS)
@rule("AveragePool", "LpPool", "GlobalAveragePool", "GlobalLpPool")
def pool(op: Op) -> Result:
    shape = op.out_shapes[0]
    if shape is None:
        raise Unsupported("the output shape is unknown")
    kernel = op.attr("kernel_shape") or op.shape(0)[2:]
    out = [op.axis(0, 0), op.axis(0, 1), *slid_over(op, shape[2:], kernel)[0]]
    places = Traced([not_zero(labels) for labels in out], positions=op.shape(0))
    return [out] if len(op.node.outputs) == 1 else [out, places]


@rule("MaxUnpool", traits=Trait.READS_POSITIONS)
def unpool(op: Op) -> Result:
    """X[N, C, ...] to the positions that a pooling of as many channels has noted; zero everywhere else."""
    given = op.ints(2)
    shape = op.out_shapes[0] if given is None else tuple(given)
    if shape is None or op.positions_in(1) != shape:
        raise Unsupported("its positions are not known to be those of a pooling of what it puts out")
    out = [op.axis(0, 0), op.axis(0, 1)]
    for k, labels in enumerate(out):
        op.same(labels, op.axis(1, k))
    if op.has(2):
        op.lengths(2, dict(enumerate(out)))
    return [[*out, *(fixed(n) for n in shape[2:])]]


@rule("Resize", "Upsample")
def resize(op: Op) -> Result:
    """Axes whose length does not change pass; `sizes` counts them."""
    shape = op.out_shapes[0]
    if shape is None:
        raise Unsupported("the output shape is unknown")
    same = [len(labels) == n for labels, n in zip(op.peek(0), shape, strict=True)]
    out = [op.axis(0, k) if keep else fixed(shape[k]) for k, keep in enumerate(same)]
    if op.has(3):
        op.lengths(3, {e: out[k] for e, k in enumerate(op.attr("axes", range(len(out))))})
    if op.attr("coordinate_transformation_mode") in (b"tf_crop_and_resize", "tf_crop_and_resize"):
        value = np.asarray(op.attr("extrapolation_value", 0.0))
        out = [not_zero(labels) for labels in out] if np.any(value) else out
    return [out]
