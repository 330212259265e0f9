"""Operators of ONNX Runtime's own domain, which its optimiser and some exporters write: `com.microsoft`.

Most are fusions of standard operators, and their rules are put together from the rules of those. The quantised ones
are in `quantized.py`.
"""

import math

import numpy as np

from slimnet.graph.axes import Labels, fixed, not_zero
from slimnet.graph.op import Axes, Op, Result, Role, Unsupported, broadcast
from slimnet.graph.registry import Trait, rule
from slimnet.graph.rules.attention import attended, mask
from slimnet.graph.rules.linear import affine, convolution, product
from slimnet.graph.rules.shape import regroup
from slimnet.graph.rules.window import windowed

DOMAIN = "com.microsoft"
#: Fused activations that are zero at zero, whatever their parameters.
_KEEP_ZERO = ("", "Relu", "LeakyRelu", "Tanh", "Elu", "Selu", "ThresholdedRelu", "Softsign", "HardSwish")


# -- activations -----------------------------------------------------------------------------------------------------


@rule("Gelu", "QuickGelu", domain=DOMAIN, traits=Trait.NONLINEAR)
def gelu(op: Op) -> Result:
    """f(0) = 0."""
    return [op.axes(0)]


@rule("BiasGelu", "FastGelu", domain=DOMAIN, traits=Trait.NONLINEAR)
def bias_gelu(op: Op) -> Result:
    """gelu(x + bias): zero where both are."""
    return [broadcast(op, [op.axes(i) for i in range(len(op.values)) if op.has(i)], zero="all")]


def _activated(op: Op, labels: Labels) -> Labels:
    """An axis after the activation that is fused into an operator."""
    name = op.text("activation", "")
    low, high = op.attr("activation_params", (1, 0)) if name == "Clip" else (1, 0)
    keeps = name in _KEEP_ZERO or low <= 0 <= high
    return labels if keeps else not_zero(labels)


# -- layers ----------------------------------------------------------------------------------------------------------


@rule("FusedConv", domain=DOMAIN, traits=Trait.LAYER | Trait.CONVOLUTION)
def fused_conv(op: Op) -> Result:
    """activation(conv(X, W, B) + Z)."""
    out = convolution(op, windowed(op, op.shape(0)[2:], op.shape(1)[2:]))
    if op.has(3):
        out = broadcast(op, [out, op.axes(3)], zero="all")
    return [[_activated(op, labels) for labels in out]]


@rule("FusedGemm", domain=DOMAIN, traits=Trait.LAYER | Trait.PRODUCT)
def fused_gemm(op: Op) -> Result:
    """activation(alpha A B + beta C)."""
    return [[_activated(op, labels) for labels in affine(op)]]


@rule("FusedMatMul", domain=DOMAIN, traits=Trait.LAYER | Trait.PRODUCT)
def fused_matmul(op: Op) -> Result:
    """alpha A B, either side with its last two axes turned."""
    if op.attr("transBatchA", 0) or op.attr("transBatchB", 0):
        raise Unsupported("FusedMatMul with turned batch axes")
    return [product(op, turn_left=bool(op.attr("transA", 0)), turn_right=bool(op.attr("transB", 0)))]


# -- normalisation ---------------------------------------------------------------------------------------------------


@rule("SkipLayerNormalization", domain=DOMAIN)
def skip_layer_norm(op: Op) -> Result:
    """layer_norm(input + skip + bias) * gamma + beta, and that sum as the fourth output."""
    return _skip_norm(op, {2: "scale", 3: "B", 4: "bias"})


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN)
def skip_rms_norm(op: Op) -> Result:
    """rms_norm(input + skip + bias) * gamma, and that sum as the fourth output."""
    return _skip_norm(op, {2: "scale", 3: "bias"})


def _skip_norm(op: Op, vectors: dict[int, str]) -> Result:
    bias = [i for i, use in vectors.items() if use == "bias" and op.has(i)]
    total = broadcast(op, [op.axes(0), op.axes(1), *(op.axes(i) for i in bias)], zero="all")
    channels, last = total[-1], len(total) - 1
    gather = [(i, op.rank(i) - 1) for i in (0, 1)]
    for i, use in vectors.items():
        if op.has(i):
            op.role(i, 0, Role.ALONG, use)
            op.same(op.axis(i, 0), channels)
            gather.append((i, 0))
    fill = [(k, last) for k in (0, 3) if k < len(op.node.outputs) and op.node.outputs[k].name]
    op.inexact("is normalised over", channels, gather, fill)
    keeps_zero = not any(use == "B" and op.has(i) for i, use in vectors.items())
    out = [*(total[:-1] if keeps_zero else map(not_zero, total[:-1])), channels]
    return [out, None, None, total][: len(op.node.outputs)]


@rule("EmbedLayerNormalization", domain=DOMAIN)
def embed_layer_norm(op: Op) -> Result:
    """layer_norm of the sum of rows of the word, position and segment tables; labels [B, S] to [B, S, D]."""
    tables = [i for i in (2, 3, 4) if op.has(i)]
    channels = op.axis(2, 1)
    for i in tables:
        op.role(i, 1, Role.OUT, "data")
        op.same(op.axis(i, 1), channels)
    gather = [(i, 1) for i in tables]
    for i, use in ((5, "scale"), (6, "B")):
        op.role(i, 0, Role.ALONG, use)
        op.same(op.axis(i, 0), channels)
        gather.append((i, 0))
    fill = [(k, 2) for k in (0, 2) if k < len(op.node.outputs) and op.node.outputs[k].name]
    op.inexact("is normalised over", channels, gather, fill)
    batch, tokens = (fixed(n) for n in op.shape(0))
    out: Axes = [batch, tokens, channels]
    return [out, [batch], list(out)][: len(op.node.outputs)]


# -- attention -------------------------------------------------------------------------------------------------------


@rule("Attention", domain=DOMAIN, traits=Trait.LAYER)
def packed_attention(op: Op) -> Result:
    """X[B, S, D] with W[D, q + k + v] and a bias to Y[B, S, v]: the three projections and the attention in one."""
    if op.has(4) or op.attr("do_rotary", 0) or len(op.node.outputs) > 1:
        raise Unsupported("Attention with a cache or rotary positions")
    batch, tokens, width = op.axes(0)
    rows, columns = op.axes(1)
    op.role(1, 0, Role.IN, "W")
    op.role(1, 1, Role.OUT, "W")
    op.contract(width, rows)
    op.multiply_adds(batch, tokens, rows, columns)
    if op.has(2):
        op.role(2, 0, Role.ALONG, "B")
        columns = broadcast(op, [[columns], [op.axis(2, 0)]], zero="all")[0]
    sizes = op.attr("qkv_hidden_sizes") or [len(columns) // 3] * 3
    parts = np.split(columns, np.cumsum(sizes)[:2])
    op.lengths("qkv_hidden_sizes", dict(enumerate(parts)))
    return [_attended(op, [[batch, tokens, part] for part in parts], bias=5)]


@rule("MultiHeadAttention", domain=DOMAIN, traits=Trait.LAYER)
def multi_head_attention(op: Op) -> Result:
    """Q[B, S, h*d], K[B, T, h*d], V[B, T, h*e] and one bias [h*d + h*d + h*e] to Y[B, S, h*e]."""
    if any(op.has(i) for i in (6, 7, 8, 9)) or len(op.node.outputs) > 1:
        raise Unsupported("MultiHeadAttention with a cache")
    if not (op.has(1) and op.has(2)) or any(op.rank(i) != 3 for i in range(3)):
        raise Unsupported("MultiHeadAttention with queries, keys and values in one tensor")
    operands = [op.axes(i) for i in range(3)]
    if op.has(3):
        op.role(3, 0, Role.ALONG, "B")
        parts = np.split(op.axis(3, 0), np.cumsum([len(axes[2]) for axes in operands])[:2])
        operands = [[*axes[:2], *broadcast(op, [[axes[2]], [part]], zero="all")]
                    for axes, part in zip(operands, parts, strict=True)]  # fmt: skip
    return [_attended(op, operands, bias=5)]


def _attended(op: Op, operands: list[Axes], bias: int) -> Axes:
    """Attention over queries, keys and values [B, tokens, heads * size], whose heads have a size each."""
    heads = int(op.attr("num_heads"))
    q, k, v = (_by_head(op, axes, heads) for axes in operands)
    if not op.attr("scale", 0.0):
        op.freeze("scale", 1.0 / math.sqrt(len(q[3])))
    batch, head, tokens, inner = attended(op, q, k, v)
    if op.has(bias) or op.attr("unidirectional", 0):
        op.pin(q[2], "is masked by position")
    if op.has(bias):
        mask(op, bias, q[1])
    op.lengths("num_heads", {0: q[1]})
    return regroup(op, [batch, tokens, head, inner], [len(batch), len(tokens), heads * len(inner)])


def _by_head(op: Op, axes: Axes, heads: int) -> Axes:
    """[B, tokens, heads * size] as [B, heads, tokens, size]."""
    sizes = [len(axes[0]), len(axes[1]), heads, len(axes[2]) // heads]
    batch, tokens, head, inner = regroup(op, axes, sizes)
    return [batch, head, tokens, inner]
