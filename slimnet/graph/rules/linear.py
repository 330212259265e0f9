"""Convolutions and matrix products: one side's channels are contracted, the other side's come out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from slimnet.graph.axes import Labels, fixed, is_live, not_zero, signed
from slimnet.graph.op import KERNEL, Axes, Malformed, Op, Result, Role, Unsupported, broadcast
from slimnet.graph.parameters import constant
from slimnet.graph.registry import Trait, rule
from slimnet.graph.rules.window import slid_over


@rule("Conv", "ConvTranspose", traits=Trait.LAYER | Trait.CONVOLUTION)
def conv(op: Op) -> Result:
    """X[N, C, ...] with W[O, C/g, ...]; a ConvTranspose has W[C, O/g, ...]."""
    shape, transposed = op.out_shapes[0], op.kind == "ConvTranspose"
    return [convolution(op, None if shape is None else shape[2:], transposed=transposed)]


def convolution(
    op: Op, space: Sequence[int] | None, x: int = 0, w: int = 1, b: int = 2, *, transposed: bool = False
) -> Axes:
    """The labels of what a convolution puts out, whose spatial sizes are given.

    `x`, `w` and `b` are the places of its input, its weight and its bias.
    """
    group = int(op.attr("group", 1))
    batch, channels, first, second = op.axis(x, 0), op.axis(x, 1), op.axis(w, 0), op.axis(w, 1)
    _check_groups(group, len(channels), len(first), len(second), transposed)
    if space is None:
        raise Unsupported("the output shape is unknown")
    op.role(w, 0, Role.IN if transposed else Role.OUT, "W", group, made=True)
    op.role(w, 1, Role.OUT if transposed else Role.IN, "W", group, made=True)
    if group == 1:
        inner, out = (first, second) if transposed else (second, first)
        op.contract(channels, inner)
    elif group == len(channels) and len(second) == 1 and not transposed:
        out = _depthwise(op, channels, first)
    elif group == len(channels) and transposed:
        out = _depthwise_transposed(op, channels, w, first, second)
    else:
        out = _grouped(op, channels, first, second, group, transposed)
    if op.has(b):
        bias = op.axis(b, 0)
        op.role(b, 0, Role.ALONG, "B")
        op.same(bias, out)
        out = signed(out, (out > 0) & (bias > 0)) if is_live(out) else out
    for k in range(2, op.rank(w)):
        op.pin(op.axis(w, k), KERNEL)
    spatial, windows = slid_over(op, space, op.shape(w)[2:], x)
    if transposed:
        windows = [labels if is_live(labels) else fixed(n) for n, labels in zip(op.shape(x)[2:], windows, strict=True)]
    counted = [batch, *windows]
    fixed_size = math.prod(len(labels) for labels in counted if not is_live(labels))
    op.multiply_adds(first, second, *filter(is_live, counted), factor=float(math.prod(op.shape(w)[2:]) * fixed_size))
    rest = [batch, *spatial]
    if op.has(b):
        rest = [not_zero(labels) for labels in rest]
    return [rest[0], out, *rest[1:]]


def _check_groups(group: int, channels: int, first: int, second: int, transposed: bool) -> None:
    """A weight has the shape [O, C/g, ...]; that of a ConvTranspose [C, O/g, ...], with whole groups in either."""
    inputs, divided = (first, first) if transposed else (second * group, first)
    if group < 1 or divided % group or inputs != channels:
        shape = f"{first}x{second}"
        raise Malformed(f"{group} groups do not fit its {channels} input channels and its weight of {shape} channels")


def _depthwise(op: Op, x: Labels, out: Labels) -> Labels:
    """Channel c makes the output channels c*m to c*m + m - 1; `group` counts the channels."""
    source = np.repeat(x, len(out) // len(x))
    op.same(source, out)
    op.lengths("group", {0: x})
    return signed(out, (out > 0) | (source > 0)) if is_live(out) else out


def _depthwise_transposed(op: Op, x: Labels, w: int, first: Labels, second: Labels) -> Labels:
    op.role(w, 0, Role.OUT, "W", len(x))
    op.same(x, first)
    op.pin(second, "is the multiplier of a depthwise ConvTranspose")
    op.lengths("group", {0: x})
    return np.repeat(first, len(second))


def _grouped(op: Op, x: Labels, first: Labels, second: Labels, group: int, transposed: bool) -> Labels:
    """Either whole groups are removed, or the same offset in every group: a grid [group, offset] on both sides."""
    groups = op.fresh(group)
    op.lengths("group", {0: groups})
    offsets = op.fresh(len(first) // group)
    op.grid(first, (group, len(offsets)), [groups, offsets])
    if transposed:
        op.same(x, first)
        _contract_offsets(op, x, offsets, first)
        out = op.fresh(group * len(second))
        out = signed(out, np.tile(second > 0, group)) if is_live(out) else out
        op.grid(out, (group, len(second)), [groups, second])
        return out
    _contract_offsets(op, x, second, np.tile(second, group))
    op.grid(x, (group, len(second)), [groups, second])
    return first


def _contract_offsets(op: Op, x: Labels, offsets: Labels, weights: Labels) -> None:
    """An offset may be removed from the sums of all groups only if the input or the weights are zero there in each.

    A whole group may be removed with its outputs, whatever its inputs are.
    """
    both = ((x < 0) & (weights <= 0)).reshape(-1, len(offsets)).any(axis=0)
    if both.any():
        op.pin(offsets[both], "is summed over although neither side becomes zero")


@rule("Gemm", traits=Trait.LAYER | Trait.PRODUCT)
def gemm(op: Op) -> Result:
    return [affine(op)]


def affine(op: Op, left: int = 0, right: int = 1, added: int = 2) -> Axes:
    """The labels of alpha A B + beta C, whose places are given; either matrix may be transposed."""
    out = product(op, left, right, bool(op.attr("transA", 0)), bool(op.attr("transB", 0)))
    return broadcast(op, [out, op.axes(added)], zero="all") if op.has(added) else out


@rule("MatMul", traits=Trait.LAYER | Trait.PRODUCT)
def matmul(op: Op) -> Result:
    return [product(op)]


def product(op: Op, left: int = 0, right: int = 1, turn_left: bool = False, turn_right: bool = False) -> Axes:
    """The labels of numpy's matmul: the last axis is contracted with the last but one, batch axes are broadcast.

    `left` and `right` are the places of the operands, of which either may have its last two axes turned.
    """
    a, b = op.axes(left), op.axes(right)
    along = {left: len(a) - 1 - turn_left, right: max(len(b) - 2, 0) + turn_right}
    _weight_roles(op, left, right, along)
    if turn_left:
        a = [*a[:-2], a[-1], a[-2]]
    if turn_right:
        b = [*b[:-2], b[-1], b[-2]]
    op.contract(a[-1], b[-2] if len(b) > 1 else b[0])
    batch = broadcast(op, [a[:-2], b[:-2]], zero="any") if len(a) > 2 or len(b) > 2 else []
    rows = a[-2:-1]
    columns = b[-1:] if len(b) > 1 else []
    op.multiply_adds(*batch, *rows, a[-1], *columns)
    return [*batch, *rows, *columns]


def _weight_roles(op: Op, left: int, right: int, contracted: dict[int, int]) -> None:
    """A constant operand is a weight: one axis in, the others out.

    A product of two matrices acts as two layers (a low-rank pair); a table of more axes is data for the second.
    """
    if op.parameter(left) and op.parameter(right):
        if op.rank(left) == 2:
            op.role(left, contracted[left], Role.OUT, "A")
        weights = [right]
    else:
        weights = [i for i in (left, right) if op.parameter(i)]
    for i in weights:
        for k in range(op.rank(i)):
            op.role(i, k, Role.IN if k == contracted[i] else Role.OUT, "A" if i == left else "B")


@rule("Einsum", traits=Trait.LAYER | Trait.PRODUCT)
def einsum(op: Op) -> Result:
    """Equal letters are equal axes; a letter missing in the output is summed over."""
    terms, output = _equation(op)
    axes: dict[str, Labels] = {}
    zero: dict[str, np.ndarray] = {}
    for i, term in enumerate(terms):
        for k, letter in enumerate(term):
            labels = op.axis(i, k)
            if term.count(letter) > 1:
                op.pin(labels, "takes a diagonal of this axis")
            if letter in axes:
                op.same(axes[letter], labels)
                zero[letter] = zero[letter] | (labels > 0)
            else:
                axes[letter], zero[letter] = labels, labels > 0
            if op.parameter(i):
                op.role(i, k, Role.OUT if letter in output else Role.IN, "W")
    for letter in set(axes) - set(output):
        op.vanish(signed(axes[letter], zero[letter]), "is summed over although no side becomes zero")
    op.multiply_adds(*axes.values())
    return [[signed(axes[c], zero[c]) if is_live(axes[c]) else axes[c] for c in output]]


def _equation(op: Op) -> tuple[list[str], str]:
    equation = str(op.attr("equation")).replace(" ", "")
    if "..." in equation:
        raise Unsupported("an Einsum with an ellipsis")
    left, arrow, output = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = "".join(terms)
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    lengths: dict[str, int] = {}
    for i, term in enumerate(terms):
        for letter, n in zip(term, op.shape(i), strict=True):
            if lengths.setdefault(letter, n) != n:
                raise Unsupported("an Einsum that broadcasts")
    return terms, output


# -- layers at rest --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contraction:
    """How a layer without groups sums over the product of its data and a constant weight.

    Attributes:
        data: The number of the input that holds the data.
        data_axis: The axis of the data that is summed over, counted from the back where its rank is not known.
        weight_axis: The axis of the weight that is summed over.
        filter_axis: The axis of the weight that becomes an axis of the output.
        padded: Whether some sums also run over zeros put around the data.
    """

    data: int
    data_axis: int
    weight_axis: int
    filter_axis: int
    padded: bool = False


def contraction(node: ir.Node, place: int) -> Contraction | None:
    """What a layer does with the constant weight that is its input `place`; None if it is no such layer."""
    tensor = constant(node.inputs[place]) if place < len(node.inputs) else None
    if tensor is None or node.domain:
        return None
    if node.op_type == "Conv":
        return _of_conv(node) if place == 1 else None
    if len(tensor.shape) != 2 or place > 1:
        return None
    if node.op_type == "Gemm":
        return _of_gemm(node, place)
    return _of_matmul(node, place) if node.op_type == "MatMul" else None


def _of_conv(node: ir.Node) -> Contraction | None:
    if node.attributes.get_int("group", 1) != 1:
        return None
    explicit = any(node.attributes.get_ints("pads", ()))
    automatic = node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return Contraction(0, 1, 1, 0, explicit or automatic)


def _of_gemm(node: ir.Node, place: int) -> Contraction:
    turned = [bool(node.attributes.get_int(name, 0)) for name in ("transA", "transB")]
    # Unturned, the left matrix is summed over along axis 1 and the right one along axis 0.
    along = [int(turned[0] != 1), int(turned[1])]
    return Contraction(1 - place, along[1 - place], along[place], 1 - along[place])


def _of_matmul(node: ir.Node, place: int) -> Contraction | None:
    if place == 1:
        return Contraction(0, -1, 0, 1)
    data = node.inputs[1]
    if data is None or data.shape is None or len(data.shape) < 2:
        return None
    return Contraction(1, -2, 1, 0)
