"""Quantised tensors: scale and zero point travel along their axis; zero means the zero point."""

import numpy as np

from slimnet.graph.axes import Labels, fixed, not_zero
from slimnet.graph.op import Axes, Op, Result, Role, Unsupported, broadcast
from slimnet.graph.registry import Trait, rule
from slimnet.graph.rules.contrib import DOMAIN
from slimnet.graph.rules.linear import affine, convolution, product
from slimnet.graph.rules.window import windowed


@rule("QuantizeLinear", traits=Trait.HIDES)
def quantize(op: Op) -> Result:
    """Y = X / scale + zero_point; per tensor or along one axis."""
    _check_blocks(op)
    axes = op.axes(0)
    _scaled_along(op, (1, 2), axes, op.attr("axis", 1))
    return [op.encoded(axes, 2)]


@rule("DequantizeLinear")
def dequantize(op: Op) -> Result:
    """Y = (X - zero_point) * scale; per tensor or along one axis."""
    _check_blocks(op)
    axes = op.decoded(0, 2)
    _weight(op, 0, (1, 2), axes, op.attr("axis", 1))
    return [axes]


def _check_blocks(op: Op) -> None:
    if op.attr("block_size", 0):
        raise Unsupported("blockwise quantisation")


def _scaled_along(op: Op, places: tuple[int, int], axes: Axes, axis: int) -> int | None:
    """The axis that the scale and zero point in these inputs run along; None where they are of the whole tensor."""
    along: int | None = None
    for i, use in zip(places, ("scale", "zero_point"), strict=True):
        if not op.has(i):
            continue
        if op.rank(i) == 1 and op.shape(i)[0] > 1:
            along = axis % len(axes)
            op.role(i, 0, Role.UNTOUCHED, use)
            op.untouched(i)
            op.same(op.axis(i, 0), axes[along])
        elif op.rank(i):
            op.axis(i, 0)
    return along


def _weight(op: Op, i: int, places: tuple[int, int], axes: Axes, axis: int) -> None:
    """Input i with its scale and zero point: a mask writes the zero point, not the number 0, where it is a weight."""
    along = _scaled_along(op, places, axes, axis)
    zero_point = op.given_zero(places[1])
    if op.parameter(i) and zero_point is not None:
        op.zero_point(i, zero_point, along)


# -- operators that compute on quantised numbers ---------------------------------------------------------------------


@rule("QLinearConv", traits=Trait.LAYER | Trait.CONVOLUTION)
def qlinear_conv(op: Op) -> Result:
    """x, its scale and zero point, w[O, C/g, ...] with one scale and zero point or one per filter, those of y, b[O]."""
    op.decoded(0, 2)
    _weight(op, 3, (4, 5), op.decoded(3, 5), 0)
    _integer_bias(op, 8)
    space = windowed(op, op.shape(0)[2:], op.shape(3)[2:])
    return [op.encoded(convolution(op, space, 0, 3, 8), 7)]


@rule("QLinearMatMul", traits=Trait.LAYER | Trait.PRODUCT)
def qlinear_matmul(op: Op) -> Result:
    """a and b with scale and zero point each, and those of y; b may have one per column."""
    _weight(op, 0, (1, 2), op.decoded(0, 2), -2)
    _weight(op, 3, (4, 5), op.decoded(3, 5), -1)
    return [op.encoded(product(op, 0, 3), 7)]


@rule("QGemm", domain=DOMAIN, traits=Trait.LAYER | Trait.PRODUCT)
def qgemm(op: Op) -> Result:
    """alpha A B + C of quantised matrices and an integer C; without a scale for it, the output is of floats."""
    op.decoded(0, 2)
    _weight(op, 3, (4, 5), op.decoded(3, 5), 0 if op.attr("transB", 0) else 1)
    _integer_bias(op, 6)
    out = affine(op, 0, 3, 6)
    return [op.encoded(out, 8) if op.has(7) else out]


def _integer_bias(op: Op, i: int) -> None:
    """A bias of integers that count products of both scales: its zero is 0."""
    if op.has(i):
        op.zero_point(i, np.zeros((), np.int32))


@rule("QLinearAdd", domain=DOMAIN)
def qlinear_add(op: Op) -> Result:
    return [op.encoded(_broadcast(op, zero="all"), 7)]


@rule("QLinearMul", domain=DOMAIN)
def qlinear_mul(op: Op) -> Result:
    return [op.encoded(_broadcast(op, zero="any"), 7)]


def _broadcast(op: Op, zero: str) -> Axes:
    """Two operands, each with its scale and zero point."""
    for i in (0, 3):
        _weight(op, i, (i + 1, i + 2), op.decoded(i, i + 2), 0)
    return broadcast(op, [op.axes(0), op.axes(3)], zero)


@rule("QLinearConcat", domain=DOMAIN)
def qlinear_concat(op: Op) -> Result:
    """The scale and zero point of y, then any number of tensors with theirs."""
    operands = [op.decoded(i, i + 2) for i in range(2, len(op.values), 3)]
    axis = op.attr("axis") % len(operands[0])
    out = [np.concatenate(column) if k == axis else broadcast(op, [[labels] for labels in column], "all")[0]
           for k, column in enumerate(zip(*operands, strict=True))]  # fmt: skip
    return [op.encoded(out, 1)]


@rule("QLinearLeakyRelu", domain=DOMAIN, traits=Trait.NONLINEAR)
def qlinear_leaky_relu(op: Op) -> Result:
    return [op.encoded(op.decoded(0, 2), 4)]


@rule("QLinearSigmoid", domain=DOMAIN, traits=Trait.NONLINEAR)
def qlinear_sigmoid(op: Op) -> Result:
    """The sigmoid of 0 is another number."""
    return [op.encoded([not_zero(labels) for labels in op.decoded(0, 2)], 4)]


@rule("QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_global_average_pool(op: Op) -> Result:
    axes = op.decoded(0, 2)
    return [op.encoded(_pooled(op, axes, [1] * (len(axes) - 2), bool(op.attr("channels_last", 0))), 4)]


@rule("QLinearAveragePool", domain=DOMAIN)
def qlinear_average_pool(op: Op) -> Result:
    last = bool(op.attr("channels_last", 0))
    axes = op.decoded(0, 2)
    space = op.shape(0)[1:-1] if last else op.shape(0)[2:]
    return [op.encoded(_pooled(op, axes, windowed(op, space, op.attr("kernel_shape")), last), 4)]


@rule("NhwcMaxPool", domain=DOMAIN, traits=Trait.PICKS)
def nhwc_max_pool(op: Op) -> Result:
    """x[N, H, W, C]; its maxima are among its elements."""
    axes = op.axes(0)
    return [_pooled(op, axes, windowed(op, op.shape(0)[1:-1], op.attr("kernel_shape")), channels_last=True)]


def _pooled(op: Op, axes: Axes, space: list[int], channels_last: bool) -> Axes:
    """Batch and channels of a pooled tensor pass, the spatial axes are read."""
    batch, *rest = axes
    channels: Labels = rest.pop(-1 if channels_last else 0)
    for labels in rest:
        op.pin(labels, "is pooled over")
    middle = [fixed(n) for n in space]
    return [batch, *middle, channels] if channels_last else [batch, channels, *middle]
