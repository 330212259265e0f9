"""Normalisation: exact over single channels and whole groups, inexact where the mean runs over live channels."""

import numpy as np

from slimnet.graph.axes import is_live, not_zero, signed
from slimnet.graph.op import Axes, Op, Result, Role, Unsupported
from slimnet.graph.registry import Trait, rule

_BATCH_NORM = {1: ("scale", Role.ALONG), 2: ("B", Role.ALONG), 3: ("mean", Role.UNTOUCHED), 4: ("var", Role.UNTOUCHED)}


@rule("BatchNormalization")
def batch_norm(op: Op) -> Result:
    """Scale and bias of a masked channel are zero, and so is its output.

    In training mode the statistics are those of the input, which are known where a weight is standardised so.
    """
    if op.attr("training_mode", 0) and not op.settle():
        raise Unsupported("BatchNormalization in training mode")
    op.statistics(3, 4)
    return _per_channel(op, _BATCH_NORM)


@rule("InstanceNormalization")
def instance_norm(op: Op) -> Result:
    return _per_channel(op, {1: ("scale", Role.ALONG), 2: ("B", Role.ALONG)})


def _per_channel(op: Op, vectors: dict[int, tuple[str, Role]]) -> Result:
    batch, channel = op.axis(0, 0), op.axis(0, 1)
    for i, (use, role) in vectors.items():
        op.role(i, 0, role, use)
        op.same(op.axis(i, 0), channel)
    spatial = _normalised(op) if op.kind == "InstanceNormalization" else [op.axis(0, k) for k in range(2, op.rank(0))]
    zero = (op.peek(1)[0] > 0) & (op.peek(2)[0] > 0)
    out = signed(channel, zero) if is_live(channel) else channel
    rest: list[Axes | None] = [None] * (len(op.node.outputs) - 1)
    return [[not_zero(batch), out, *map(not_zero, spatial)], *rest]


def _normalised(op: Op) -> Axes:
    """The axes behind the channels, each channel normalised over them.

    A group norm is written as an instance norm whose channels are the groups. With one group, whose axis has length one
    or is fixed, a removed channel is a part of what is normalised over; else the groups are what is removed.
    """
    spatial = op.peek(0)[2:]
    if is_live(op.peek(0)[1]):
        return spatial
    for k in range(2, op.rank(0)):
        op.inexact("is normalised over", op.axis(0, k), [(0, k)], [(0, k)])
    return spatial


@rule("GroupNormalization")
def group_norm(op: Op) -> Result:
    """Whole groups are removed: all channels of a group are one unit."""
    groups = int(op.attr("num_groups"))
    if groups == 1:
        return _single_group(op)
    batch, channel = op.axis(0, 0), op.axis(0, 1)
    grid = channel.reshape(groups, -1)
    for column in grid.T[1:]:
        op.same(grid.T[0], column)
    zero = np.ones(len(channel), bool)
    for i, use in ((1, "scale"), (2, "B")):
        op.role(i, 0, Role.ALONG, use)
        vector = op.axis(i, 0)
        per_channel = len(vector) == len(channel)
        op.same(vector, channel if per_channel else grid[:, 0])
        zero &= (vector if per_channel else np.repeat(vector, grid.shape[1])) > 0
    op.lengths("num_groups", {0: grid[:, 0]})
    out = signed(channel, zero) if is_live(channel) else channel
    return [[not_zero(batch), out, *(not_zero(labels) for labels in op.peek(0)[2:])]]


def _single_group(op: Op) -> Result:
    """Mean and variance run over all channels: removing zeros changes both."""
    batch, channel = op.axis(0, 0), op.axis(0, 1)
    gather = [(0, 1)]
    for i, use in ((1, "scale"), (2, "B")):
        op.role(i, 0, Role.ALONG, use)
        vector = op.axis(i, 0)
        if len(vector) == len(channel):
            op.same(vector, channel)
            gather.append((i, 0))
    op.inexact("is normalised over", channel, gather, [(0, 1)])
    return [[not_zero(batch), channel, *(not_zero(labels) for labels in op.peek(0)[2:])]]


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(op: Op) -> Result:
    """Mean and variance over the last axes; removing zeros changes both."""
    axes = op.axes(0)
    first = op.attr("axis", -1) % len(axes)
    parameters = [i for i in (1, 2) if op.has(i)]
    for k in range(first, len(axes)):
        gather = [(0, k)]
        for i in parameters:
            offset = k - len(axes) + op.rank(i)
            if offset >= 0:
                op.role(i, offset, Role.ALONG, "scale" if i == 1 else "B")
                op.same(op.axis(i, offset), axes[k])
                gather += [(i, offset)] if len(op.peek(i)[offset]) > 1 else []
        op.inexact("is normalised over", axes[k], gather, [(0, k)])
    keeps_zero = op.kind == "RMSNormalization" or not op.has(2)
    out = [labels if k >= first or keeps_zero else not_zero(labels) for k, labels in enumerate(axes)]
    return [out, *([None] * (len(op.node.outputs) - 1))]


@rule("LpNormalization")
def lp_norm(op: Op) -> Result:
    """The norm does not see zeros; the runtime leaves what has a norm of zero at zero."""
    axes = op.axes(0)
    along = op.attr("axis", -1) % len(axes)
    op.vanish(axes[along], "is normalised over although it does not become zero")
    return [axes]


@rule("LRN")
def lrn(op: Op) -> Result:
    """Every channel is divided by a sum over its neighbours."""
    axes = op.axes(0)
    out, _ = op.slide(0, 1, np.arange(len(axes[1])))
    return [[axes[0], signed(out, True) if is_live(out) else out, *axes[2:]]]


@rule("LogSoftmax")
@rule("Softmax", "Hardmax", traits=Trait.HIDES)
def softmax(op: Op) -> Result:
    axes = op.axes(0)
    axis = op.attr("axis", -1 if op.opset >= 13 else 1) % len(axes)
    over = [axis] if op.opset >= 13 else range(axis, len(axes))
    for k in over:
        op.inexact(f"goes through {op.kind}", axes[k], [(0, k)], [(0, k)])
    return [[labels if k in over else not_zero(labels) for k, labels in enumerate(axes)]]
