"""The fused Attention operator of opset 23."""

import math

import numpy as np

from slimnet.graph.axes import Labels, fixed, not_zero
from slimnet.graph.op import Axes, Op, Result, Unsupported
from slimnet.graph.registry import Trait, rule
from slimnet.graph.rules.shape import regroup


@rule("Attention", traits=Trait.LAYER)
def attention(op: Op) -> Result:
    """Q[B, h, T, d], K[B, h', S, d], V[B, h', S, e] (or the heads folded into the last axis) to Y[B, h, T, e]."""
    if len(op.node.outputs) > 1 or op.has(4) or op.has(5):
        raise Unsupported("Attention with a cache")
    folded = op.rank(0) == 3
    heads = [int(op.attr("q_num_heads", 0)), int(op.attr("kv_num_heads", 0)), int(op.attr("kv_num_heads", 0))]
    q, k, v = (_heads(op, i, heads[i]) if folded else op.axes(i) for i in range(3))
    if op.attr("scale") is None:
        op.freeze("scale", 1.0 / math.sqrt(len(q[3])))
    batch, head, tokens, inner = attended(op, q, k, v)
    if op.has(3) or op.attr("is_causal", 0):
        op.pin(q[2], "is masked by position")
    if op.has(3) and op.data(3) is None:
        mask(op, 3, q[1])
    if folded:
        op.lengths("q_num_heads", {0: q[1]})
        op.lengths("kv_num_heads", {0: k[1]})
    if not folded:
        return [[batch, head, tokens, inner]]
    return [regroup(op, [batch, tokens, head, inner], [len(batch), len(tokens), len(head) * len(inner)])]


def attended(op: Op, q: Axes, k: Axes, v: Axes) -> Axes:
    """softmax(q k^T) v: [B, h, T, d], [B, h', S, d] and [B, h', S, e] to [B, h, T, e]; h' divides h."""
    op.contract(q[3], k[3])
    repeat = len(q[1]) // max(len(k[1]), 1)
    op.same(q[0], k[0])
    op.same(q[0], v[0])
    for labels in (k[1], v[1]):
        op.same(np.repeat(labels, repeat) if len(labels) != len(q[1]) else labels, q[1])
    for labels in (k[2], v[2]):
        op.pin(labels, "is attended over")
    for pair in ((q[2], k[2], q[3]), (k[2], q[2], v[3])):
        op.multiply_adds(q[0], q[1], *pair)
    heads = np.repeat(v[1], repeat) if len(v[1]) != len(q[1]) else v[1]
    return [q[0], heads, not_zero(q[2]), v[3]]


def _heads(op: Op, i: int, count: int) -> list[Labels]:
    batch, tokens, width = op.axes(i)
    if not count:
        raise Unsupported("its number of heads is not given")
    batch, tokens, head, inner = regroup(op, [batch, tokens, width], [*op.shape(i)[:2], count, len(width) // count])
    return [batch, head, tokens, inner]


def mask(op: Op, i: int, heads: Labels) -> None:
    """A mask [.., h or 1, T, S], which is input i, follows the heads."""
    if op.rank(i) >= 3:
        axis = op.axis(i, op.rank(i) - 3)
        op.same(axis, heads if len(axis) == len(heads) else fixed(len(axis)))
