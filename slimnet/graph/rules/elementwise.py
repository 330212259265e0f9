"""Operators that work on each element by itself, alone or with broadcasting."""

import numpy as np

from slimnet.graph.axes import fixed, is_live, not_zero, signed
from slimnet.graph.op import Op, Result, Traced, Unsupported, broadcast
from slimnet.graph.registry import Trait, rule

#: Nonlinear and pointwise: what an activation function is.
_ACTIVATION = Trait.NONLINEAR | Trait.POINTWISE


@rule(
    *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "HardSwish", "Swish", "ThresholdedRelu", "Softsign"),
    *("Tanh", "Erf"),
    traits=_ACTIVATION,
)
@rule("Sin", "Tan", "Sinh", "Atan", "Asinh", "Abs", "Neg", traits=Trait.POINTWISE)
@rule("Asin", "Atanh", "Sign", "Sqrt", "Floor", "Ceil", "Round", traits=Trait.POINTWISE | Trait.HIDES)
@rule("Identity", traits=Trait.POINTWISE | Trait.MOVES | Trait.PASSES_INDICES)
@rule("Cast", traits=Trait.SCALES | Trait.MOVES | Trait.PASSES_INDICES)
@rule("IsNaN", "IsInf", traits=Trait.HIDES)
@rule("BitCast")
def keeps_zero(op: Op) -> Result:
    """f(0) = 0."""
    items = op.items(0)
    return [op.axes(0) if items is None else Traced(items=items)]


@rule("Sigmoid", "HardSigmoid", "Softplus", traits=_ACTIVATION)
@rule("Cos", "Cosh", "Not", traits=Trait.POINTWISE)
@rule("Exp", "Acos", traits=Trait.POINTWISE | Trait.HIDES)
def loses_zero(op: Op) -> Result:
    """f(0) is some other finite number."""
    return [[not_zero(labels) for labels in op.axes(0)]]


@rule("Reciprocal", traits=Trait.POINTWISE)
@rule("Log", "Acosh", traits=Trait.POINTWISE | Trait.HIDES)
def undefined_at_zero(op: Op) -> Result:
    """f(0) is not finite, and would turn the zeros of later layers into NaN."""
    for labels in op.axes(0):
        op.pin(labels[labels > 0], "is not finite at zero")
    return [[not_zero(labels) for labels in op.axes(0)]]


@rule("CastLike", traits=Trait.MOVES)
def cast_like(op: Op) -> Result:
    if op.known(1) and op.data(1) is None:
        op.axes(1)
    return [op.axes(0)]


@rule("Dropout")
def dropout(op: Op) -> Result:
    axes = op.axes(0)
    return [axes, [not_zero(labels) for labels in axes]][: len(op.node.outputs)]


@rule("Clip", traits=_ACTIVATION | Trait.PASSES_INDICES)
def clip(op: Op) -> Result:
    low, high = op.data(1), op.data(2)
    if op.opset < 11:
        low, high = op.attr("min", -np.inf), op.attr("max", np.inf)
    bounded = not (op.has(1) and low is None) and not (op.has(2) and high is None)
    keeps = bounded and (low is None or np.all(low <= 0)) and (high is None or np.all(high >= 0))
    return [op.axes(0) if keeps else [not_zero(labels) for labels in op.axes(0)]]


@rule("Add", "Sub", traits=Trait.SCALES)
@rule("Sum", "Mean", "Max", "Min")
def additive(op: Op) -> Result:
    """Zero where every operand is."""
    return [broadcast(op, _operands(op), zero="all")]


@rule("Mul", traits=Trait.SCALES)
def mul(op: Op) -> Result:
    """Zero where one operand is."""
    return [broadcast(op, _operands(op), zero="any")]


@rule("Div", traits=Trait.SCALES)
def div(op: Op) -> Result:
    """Zero where the numerator is; a denominator that a mask set to zero would give NaN."""
    _never_zero(op, 1, "is divided by, and would be zero")
    return [broadcast(op, _operands(op), zero="first")]


@rule("Pow")
def power(op: Op) -> Result:
    exponent = op.data(1)
    if exponent is None:
        _never_zero(op, 1, "is an exponent")
    if exponent is None or np.any(exponent <= 0):
        for labels in op.axes(0):
            op.pin(labels[labels > 0], "is not known to keep zeros")
        return [broadcast(op, _operands(op), zero="none")]
    return [broadcast(op, _operands(op), zero="first")]


@rule("PRelu", traits=Trait.NONLINEAR)
def prelu(op: Op) -> Result:
    return [broadcast(op, _operands(op), zero="first")]


@rule("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", traits=Trait.COMPARES | Trait.HIDES)
@rule("And", "Or", "Xor")
def logic(op: Op) -> Result:
    return [broadcast(op, _operands(op), zero="none")]


@rule("Where")
def where(op: Op) -> Result:
    """Zero where both branches are; the condition is removed with them."""
    condition, left, right = _operands(op)
    branches = broadcast(op, [left, right], zero="all")
    return [broadcast(op, [branches, condition], zero="first")]


def _operands(op: Op) -> list[list[np.ndarray]]:
    if op.opset < 7 and op.attr("axis") is not None:
        raise Unsupported("uses the broadcasting of opset 6")
    return [op.axes(i) for i in range(len(op.values))]


def _never_zero(op: Op, i: int, why: str) -> None:
    """A constant operand is left alone by masks, with whatever it was computed from; another must not become zero."""
    if op.parameter(i):
        op.untouched(i)
        own = np.abs(np.concatenate([fixed(0), *op.peek(i)]))
        for k in (0, i):
            op.used[k] = [signed(labels, (labels > 0) & ~np.isin(np.abs(labels), own)) if is_live(labels) else labels
                          for labels in op.peek(k)]  # fmt: skip
    for labels in op.peek(i):
        op.pin(labels[labels > 0], why)
