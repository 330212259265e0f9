"""Constant evaluation of the small integer arithmetic that exporters put around shapes.

`evaluate` knows the two dozen operators that occur there in plain numpy, because a graph can hold ten thousand such
nodes; anything rarer is left to onnx's reference evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from slimnet.graph.inference import infer, shape_of
from slimnet.graph.registry import Trait, traits_of

Array = npt.NDArray[Any]
#: No constant larger than this many elements is ever made of smaller ones: a hostile file could ask for any size.
MAX_ELEMENTS = 1 << 20


class CannotEvaluate(Exception):
    """This node's value is not known before the network runs."""


def _axes(node: ir.Node, inputs: Sequence[Array | None], position: int = 1) -> list[int] | None:
    if len(inputs) > position and (given := inputs[position]) is not None:
        return [int(a) for a in np.atleast_1d(given)]
    attr = node.attributes.get("axes")
    return None if attr is None else list(attr.as_ints())


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of a node's attribute, or the default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds as attributes: the branches of an If, the body of a Loop."""
    found = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found += attribute.as_graphs()
    return found


def read_by(node: ir.Node) -> list[ir.Value]:
    """What a node reads: its inputs, and what the nodes of the graphs that it holds read."""
    nodes = [node, *(inner for graph in subgraphs(node) for inner in graph.all_nodes())]
    return [value for reader in nodes for value in reader.inputs if value is not None]


def _constant(node: ir.Node, _: Sequence[Array | None]) -> Array:
    for name, attr in node.attributes.items():
        if name == "value":
            return np.asarray(attr.as_tensor().numpy())
        if name in ("value_int", "value_ints"):
            return np.asarray(attr.value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.asarray(attr.value, np.float32)
    raise CannotEvaluate


def is_bounded(shape: Sequence[int], *given: int) -> bool:
    """Whether a shape asks for no more elements than are allowed, or than one of the inputs has."""
    return all(int(n) >= 0 for n in shape) and math.prod(int(n) for n in shape) <= max((MAX_ELEMENTS, *given))


def _bounded(shape: Sequence[int], *given: int) -> tuple[int, ...]:
    if not is_bounded(shape, *given):
        raise CannotEvaluate
    return tuple(int(n) for n in shape)


def constant_of_shape(node: ir.Node) -> npt.NDArray[Any]:
    """The one value, of shape [1], that a ConstantOfShape node fills its output with."""
    value = node.attributes.get("value")
    return np.zeros(1, np.float32) if value is None else np.asarray(value.as_tensor().numpy()).reshape(1)


def _slice(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data = _known(x[0])
    if len(x) > 1:
        starts, ends = _known(x[1]).tolist(), _known(x[2]).tolist()
        axes = _axes(node, x, 3) or list(range(len(starts)))
        steps = _known(x[4]).tolist() if len(x) > 4 and x[4] is not None else [1] * len(starts)
    else:
        starts, ends = attribute(node, "starts"), attribute(node, "ends")
        axes, steps = attribute(node, "axes", range(len(starts))), [1] * len(starts)
    index = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and end < -data.shape[axis]:
            end = None
        index[axis] = slice(start, end, step)
    return data[tuple(index)]


def _reshape(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data = _known(x[0])
    target = list(attribute(node, "shape") if len(x) < 2 else _known(x[1]).tolist())
    if not attribute(node, "allowzero", 0):
        target = [data.shape[i] if n == 0 else n for i, n in enumerate(target)]
    return data.reshape(target)


def _squeeze(node: ir.Node, x: Sequence[Array | None]) -> Array:
    axes = _axes(node, x)
    return np.squeeze(_known(x[0]), None if axes is None else tuple(axes))


def _unsqueeze(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.expand_dims(_known(x[0]), tuple(_axes(node, x) or ()))


def _expand(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, shape = _known(x[0]), _known(x[1]).tolist()
    return np.broadcast_to(data, _bounded(np.broadcast_shapes(data.shape, tuple(shape)), data.size))


def _split(node: ir.Node, x: Sequence[Array | None]) -> list[Array]:
    data, axis = _known(x[0]), attribute(node, "axis", 0)
    sizes = attribute(node, "split") if len(x) < 2 or x[1] is None else _known(x[1]).tolist()
    if sizes is None:
        parts = len(node.outputs)
        step = -(-data.shape[axis] // parts)
        sizes = [min(step, data.shape[axis] - i * step) for i in range(parts)]
    return list(np.split(data, np.cumsum(sizes)[:-1], axis))


def _gather(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, index, axis = _known(x[0]), _known(x[1]), attribute(node, "axis", 0)
    _bounded([*np.delete(data.shape, axis), index.size], data.size, index.size)
    return np.take(data, index, axis)


def _gather_nd(_: ir.Node, x: Sequence[Array | None]) -> Array:
    data, index = _known(x[0]), _known(x[1])
    _bounded([*index.shape[:-1], *data.shape[index.shape[-1] :]])
    return np.asarray(data[tuple(np.moveaxis(index, -1, 0))])


def _tile(_: ir.Node, x: Sequence[Array | None]) -> Array:
    data, repeats = _known(x[0]), _known(x[1]).tolist()
    _bounded([*repeats, data.size], data.size)
    return np.tile(data, repeats)


def _range(_: ir.Node, x: Sequence[Array | None]) -> Array:
    start, stop, step = (_known(v) for v in x)
    _bounded([max(0, math.ceil((stop.item() - start.item()) / step.item()))])
    return np.arange(start.item(), stop.item(), step.item(), dtype=start.dtype)


def _divide(_: ir.Node, x: Sequence[Array | None]) -> Array:
    a, b = _known(x[0]), _known(x[1])
    if not np.issubdtype(a.dtype, np.integer):
        return np.divide(a, b)
    if not np.all(b):
        raise CannotEvaluate
    # ONNX divides integers as C does, towards zero.
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _reduce(function: Callable[..., Any]) -> Callable[[ir.Node, Sequence[Array | None]], Array]:
    def run(node: ir.Node, x: Sequence[Array | None]) -> Array:
        axes = _axes(node, x)
        if axes is None and attribute(node, "noop_with_empty_axes", 0):
            return _known(x[0])
        keep = bool(attribute(node, "keepdims", 1))
        data = _known(x[0])
        return np.asarray(function(data, axis=None if axes is None else tuple(axes), keepdims=keep), data.dtype)

    return run


def _pointwise(function: Callable[..., Any]) -> Callable[[ir.Node, Sequence[Array | None]], Array]:
    def run(_: ir.Node, x: Sequence[Array | None]) -> Array:
        operands = [_known(v) for v in x]
        _bounded(np.broadcast_shapes(*(v.shape for v in operands)), *(v.size for v in operands))
        return np.asarray(function(*operands))

    return run


def _cast(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return _known(x[0]).astype(ir.DataType(attribute(node, "to")).numpy())


def _scatter_nd(node: ir.Node, x: Sequence[Array | None]) -> Array:
    if attribute(node, "reduction", "none") != "none":
        raise CannotEvaluate
    data, indices, updates = _known(x[0]).copy(), _known(x[1]), _known(x[2])
    data[tuple(np.moveaxis(indices, -1, 0))] = updates
    return data


def _batch_norm(node: ir.Node, x: Sequence[Array | None]) -> Array:
    """In training mode, where it normalises with the statistics of its input; without the running ones."""
    data, scale, bias = _known(x[0]), _known(x[1]), _known(x[2])
    if not attribute(node, "training_mode", 0):
        raise CannotEvaluate
    over = (0, *range(2, data.ndim))
    mean, var = data.mean(over, keepdims=True), data.var(over, keepdims=True)
    along = [1, -1] + [1] * (data.ndim - 2)
    normal = (data - mean) / np.sqrt(var + attribute(node, "epsilon", 1e-5))
    return np.asarray(normal * scale.reshape(along) + bias.reshape(along), data.dtype)


def _known(value: Array | None) -> Array:
    if value is None:
        raise CannotEvaluate
    return value


_FUNCTIONS: dict[str, Callable[[ir.Node, Sequence[Array | None]], Array | list[Array]]] = {
    "BatchNormalization": _batch_norm,
    "Constant": _constant,
    "ConstantOfShape": lambda n, x: np.broadcast_to(constant_of_shape(n), _bounded(_known(x[0]).tolist())),
    "Cast": _cast,
    "CastLike": lambda n, x: _known(x[0]).astype(_known(x[1]).dtype),
    "Concat": lambda n, x: np.concatenate([_known(v) for v in x], attribute(n, "axis", 1)),
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Expand": _expand,
    "Range": _range,
    "ScatterND": _scatter_nd,
    "Transpose": lambda n, x: np.transpose(_known(x[0]), attribute(n, "perm")),
    "Tile": _tile,
    "Identity": lambda n, x: _known(x[0]),
    "Where": _pointwise(np.where),
    "Add": _pointwise(np.add),
    "Sub": _pointwise(np.subtract),
    "Mul": _pointwise(np.multiply),
    "Div": _divide,
    "Min": _pointwise(lambda *operands: np.minimum.reduce(np.broadcast_arrays(*operands))),
    "Max": _pointwise(lambda *operands: np.maximum.reduce(np.broadcast_arrays(*operands))),
    "Equal": _pointwise(np.equal),
    "Less": _pointwise(np.less),
    "LessOrEqual": _pointwise(np.less_equal),
    "Greater": _pointwise(np.greater),
    "GreaterOrEqual": _pointwise(np.greater_equal),
    "And": _pointwise(np.logical_and),
    "Or": _pointwise(np.logical_or),
    "Not": _pointwise(np.logical_not),
    "Neg": _pointwise(np.negative),
    "Abs": _pointwise(np.abs),
    "Sqrt": _pointwise(np.sqrt),
    "Reciprocal": _pointwise(np.reciprocal),
    "Pow": _pointwise(lambda x, y: np.power(x, y).astype(x.dtype)),
    "Exp": _pointwise(np.exp),
    "Floor": _pointwise(np.floor),
    "Ceil": _pointwise(np.ceil),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceSumSquare": _reduce(lambda x, **over: np.square(x).sum(**over)),
    "ReduceL2": _reduce(lambda x, **over: np.sqrt(np.square(x).sum(**over))),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
#: Put out elements of their first input, or their positions: however many those are, no more than there were.
_SELECT = frozenset("NonZero Compress Unique".split())
#: Operators that draw random numbers.
RANDOM = frozenset("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split())


def is_simple(node: ir.Node) -> bool:
    """Whether `evaluate` knows the operator itself: then it can compute a node whose inputs are known and large."""
    return node.domain in ("", "ai.onnx") and node.op_type in _FUNCTIONS


def evaluate(node: ir.Node, inputs: Sequence[Array | None], limit: int | None = MAX_ELEMENTS) -> list[Array]:
    """Value of a node whose inputs are known.

    Args:
        node: The node.
        inputs: Its inputs, None where an optional one is left out.
        limit: The largest number of elements that the inputs may have together; None for any.

    Raises:
        CannotEvaluate: Unknown operator, too large, or the arithmetic fails.
    """
    if node.domain not in ("", "ai.onnx") or node.op_type in RANDOM:
        raise CannotEvaluate
    if limit is not None and sum(v.size for v in inputs if v is not None) > limit:
        raise CannotEvaluate
    function = _FUNCTIONS.get(node.op_type, _reference)
    try:
        with np.errstate(all="ignore"):
            result = function(node, inputs)
    except (ValueError, IndexError, TypeError, OverflowError, ArithmeticError) as error:
        raise CannotEvaluate from error
    return result if isinstance(result, list) else [result]


def moved(node: ir.Node, inputs: Sequence[Array | None], flags: Sequence[Array]) -> list[Array]:
    """A flag per element of each input, carried through a node that only moves elements; empty for any other node."""
    if Trait.MOVES in traits_of(node):
        marked: list[Array | None] = [flags[0], *inputs[1:]] if node.op_type != "Concat" else list(flags)
        if node.op_type in ("Cast", "CastLike"):
            return [flags[0]]
        if not any(f.any() for f in flags[1:]) or node.op_type == "Concat":
            return evaluate(node, marked)
    return []


def _check_outputs(node: ir.Node, inputs: Sequence[Array | None], version: int) -> None:
    """Raise CannotEvaluate where the outputs are too large, or the standard does not infer how large they are."""
    data = {v.name or "": onnx.numpy_helper.from_array(np.ascontiguousarray(x))
            for v, x in zip(node.inputs, inputs, strict=True) if v is not None and x is not None}  # fmt: skip
    types = {name: onnx.helper.make_tensor_type_proto(x.data_type, x.dims) for name, x in data.items()}
    found = infer(node, types, data, {"": version})
    for value in node.outputs:
        shape = shape_of(found.get(value.name or ""))
        if shape is None and value.name:
            raise CannotEvaluate
        _bounded(shape or ())


def _reference(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    if subgraphs(node):
        raise CannotEvaluate
    from onnx.reference import ReferenceEvaluator

    version = node.graph.opset_imports.get("", 20) if isinstance(node.graph, ir.Graph) else 20
    if node.op_type not in _SELECT:
        _check_outputs(node, inputs, version)
    try:
        evaluator = ReferenceEvaluator(ir.to_proto(node), opsets={"": version})
        feeds = {v.name or "": x for v, x in zip(node.inputs, inputs, strict=True) if v is not None}
        result = evaluator.run(None, feeds)
    except Exception as error:
        # The reference evaluator raises whatever its operators raise; any failure only means "not known".
        raise CannotEvaluate from error
    if not all(isinstance(r, np.ndarray) for r in result):
        raise CannotEvaluate
    return list(result)
