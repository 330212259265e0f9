"""Sequences of tensors, as far as exporters use them to split a tensor."""

import numpy as np

from slimnet.graph.op import Op, Result, Traced, Unsupported
from slimnet.graph.registry import rule


@rule("SplitToSequence")
def split_to_sequence(op: Op) -> Result:
    axes = op.axes(0)
    axis = op.attr("axis", 0) % len(axes)
    length = len(axes[axis])
    sizes = op.data(1)
    if sizes is None:
        raise Unsupported("its sizes are not given, or not constant")
    if sizes.ndim == 0:
        step = int(sizes)
        bounds = list(range(step, length, step))
    else:
        bounds = np.cumsum(sizes)[:-1].tolist()
    pieces = np.split(axes[axis], bounds)
    op.lengths(1, dict(enumerate(pieces)))
    op.non_empty(*pieces)
    parameter = op.parameter(0)
    items = [Traced([*axes[:axis], piece, *axes[axis + 1 :]], parameter=parameter) for piece in pieces]
    return [Traced(items=items)]


@rule("SequenceAt")
def sequence_at(op: Op) -> Result:
    items, position = op.items(0), op.data(1)
    if items is None or position is None:
        raise Unsupported("the sequence or the position is not known")
    return [items[int(position)]]


@rule("SequenceConstruct")
def sequence_construct(op: Op) -> Result:
    return [Traced(items=[Traced(op.axes(i), parameter=op.parameter(i)) for i in range(len(op.values))])]


@rule("ConcatFromSequence")
def concat_from_sequence(op: Op) -> Result:
    items = op.items(0)
    if not items or op.attr("new_axis", 0):
        raise Unsupported("the sequence is not known, or stacked")
    columns = [item.axes or [] for item in items]
    axis = op.attr("axis") % len(columns[0])
    out = list(columns[0])
    for other in columns[1:]:
        for k, labels in enumerate(other):
            if k == axis:
                out[k] = np.concatenate([out[k], labels])
            else:
                op.same(out[k], labels)
                out[k] = np.where(labels > 0, out[k], -np.abs(out[k]))
    return [out]
