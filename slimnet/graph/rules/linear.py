"""Convolutions and matrix products: one side's channels are contracted, the other side's come out."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from slimnet.graph.axes import Ids, fixed, is_live, signed
from slimnet.graph.op import KERNEL, Op, Result, Role, Unsupported, broadcast
from slimnet.graph.registry import Trait, rule


@rule("Conv", "ConvTranspose", traits=Trait.LAYER | Trait.CONVOLUTION)
def conv(op: Op) -> Result:
    """X[N, C, ...] with W[O, C/g, ...]; a ConvTranspose has W[C, O/g, ...]."""
    out_shape = op.out_shapes[0]
    if out_shape is None:
        raise Unsupported("the output shape is unknown")
    transposed = op.kind == "ConvTranspose"
    group = int(op.attr("group", 1))
    x, first, second = op.axis(0, 1), op.axis(1, 0), op.axis(1, 1)
    op.role(1, 0, Role.IN if transposed else Role.OUT, "W", group)
    op.role(1, 1, Role.OUT if transposed else Role.IN, "W", group)
    if group == 1:
        inner, out = (first, second) if transposed else (second, first)
        op.contract(x, inner)
    elif group == len(x) and len(second) == 1 and not transposed:
        out = _depthwise(op, x, first)
    elif group == len(x) and transposed:
        out = _depthwise_transposed(op, x, first, second)
    else:
        out = _grouped(op, x, first, second, group, transposed)
    if op.has(2):
        bias = op.axis(2, 0)
        op.role(2, 0, Role.ALONG, "B")
        op.same(bias, out)
        out = signed(out, (out > 0) & (bias > 0)) if is_live(out) else out
    for k in range(2, op.rank(1)):
        op.pin(op.axis(1, k), KERNEL)
    kernel = math.prod(op.shape(1)[2:])
    positions = math.prod(out_shape[2:]) if not transposed else math.prod(op.shape(0)[2:])
    op.multiply_adds(first, second, factor=float(kernel * positions * out_shape[0]))
    return [[op.axis(0, 0), out, *(fixed(n) for n in out_shape[2:])]]


def _depthwise(op: Op, x: Ids, out: Ids) -> Ids:
    """Channel c makes the output channels c*m to c*m + m - 1; `group` counts the channels."""
    source = np.repeat(x, len(out) // len(x))
    op.same(source, out)
    op.lengths("group", {0: x})
    return signed(out, (out > 0) | (source > 0)) if is_live(out) else out


def _depthwise_transposed(op: Op, x: Ids, first: Ids, second: Ids) -> Ids:
    op.role(1, 0, Role.OUT, "W", len(x))
    op.same(x, first)
    op.pin(second, "is the multiplier of a depthwise ConvTranspose")
    op.lengths("group", {0: x})
    return np.repeat(first, len(second))


def _grouped(op: Op, x: Ids, first: Ids, second: Ids, group: int, transposed: bool) -> Ids:
    """Either whole groups go, or the same offset goes in every group: a grid [group, offset] on both sides."""
    groups = op.fresh(group)
    op.lengths("group", {0: groups})
    offsets = op.fresh(len(first) // group)
    op.relate(first, (group, len(offsets)), [groups, offsets])
    if transposed:
        op.same(x, first)
        _contract_offsets(op, x, offsets, first)
        out = op.fresh(group * len(second))
        out = signed(out, np.tile(second > 0, group)) if is_live(out) else out
        op.relate(out, (group, len(second)), [groups, second])
        return out
    _contract_offsets(op, x, second, np.tile(second, group))
    op.relate(x, (group, len(second)), [groups, second])
    return first


def _contract_offsets(op: Op, x: Ids, offsets: Ids, weights: Ids) -> None:
    """An offset may go from the sums of every group only if in each of them the input or the weights are zero there.

    A whole group may go with its outputs, whatever its inputs are.
    """
    both = ((x < 0) & (weights <= 0)).reshape(-1, len(offsets)).any(axis=0)
    if both.any():
        op.pin(offsets[both], "is summed over although neither side becomes zero")


@rule("Gemm", traits=Trait.LAYER | Trait.PRODUCT)
def gemm(op: Op) -> Result:
    a, b = op.axes(0), op.axes(1)
    if op.attr("transA", 0):
        a = a[::-1]
    if op.attr("transB", 0):
        b = b[::-1]
    _weight_roles(op, {0: 1 - op.attr("transA", 0), 1: op.attr("transB", 0)})
    op.contract(a[1], b[0])
    out = [a[0], b[1]]
    op.multiply_adds(a[0], a[1], b[1])
    if op.has(2):
        out = broadcast(op, [out, op.axes(2)], zero="all")
    return [out]


@rule("MatMul", traits=Trait.LAYER | Trait.PRODUCT)
def matmul(op: Op) -> Result:
    """numpy's matmul: contract the last axis with the last but one, broadcast the batch axes before them."""
    a, b = op.axes(0), op.axes(1)
    _weight_roles(op, {0: len(a) - 1, 1: max(len(b) - 2, 0)})
    op.contract(a[-1], b[-2] if len(b) > 1 else b[0])
    batch = broadcast(op, [a[:-2], b[:-2]], zero="any") if len(a) > 2 or len(b) > 2 else []
    rows = a[-2:-1]
    columns = b[-1:] if len(b) > 1 else []
    op.multiply_adds(*batch, *rows, a[-1], *columns)
    return [[*batch, *rows, *columns]]


def _weight_roles(op: Op, contracted: dict[int, int]) -> None:
    """A constant operand is a weight: one axis in, the others out.

    A product of two matrices acts as two layers (a low-rank pair); a table of more axes is data for the second.
    """
    if op.parameter(0) and op.parameter(1):
        if op.rank(0) == 2:
            op.role(0, contracted[0], Role.OUT, "A")
        weights = [1]
    else:
        weights = [i for i in (0, 1) if op.parameter(i)]
    for i in weights:
        for k in range(op.rank(i)):
            op.role(i, k, Role.IN if k == contracted[i] else Role.OUT, "AB"[i])


@rule("Einsum", traits=Trait.LAYER | Trait.PRODUCT)
def einsum(op: Op) -> Result:
    """Equal letters are equal axes; a letter missing in the output is summed over."""
    terms, output = _equation(op)
    axes: dict[str, Ids] = {}
    zero: dict[str, np.ndarray] = {}
    for i, term in enumerate(terms):
        for k, letter in enumerate(term):
            ids = op.axis(i, k)
            if term.count(letter) > 1:
                op.pin(ids, "takes a diagonal of this axis")
            if letter in axes:
                op.same(axes[letter], ids)
                zero[letter] = zero[letter] | (ids > 0)
            else:
                axes[letter], zero[letter] = ids, ids > 0
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
        data: number of the input that holds the data.
        data_axis: the axis of the data that is summed over, counted from the back where its rank is not known.
        weight_axis: the axis of the weight that is summed over.
        filter_axis: the axis of the weight that comes out.
        padded: whether some sums also run over zeros put around the data.
    """

    data: int
    data_axis: int
    weight_axis: int
    filter_axis: int
    padded: bool = False


def contraction(node: ir.Node, place: int) -> Contraction | None:
    """What a layer does with the constant weight that is its input `place`; None if it is no such layer."""
    weight = node.inputs[place] if place < len(node.inputs) else None
    tensor = None if weight is None else ir.convenience.get_const_tensor(weight)
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
