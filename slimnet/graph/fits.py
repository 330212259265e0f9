"""What input sizes a network can take, as far as shapes tell: what its weights, reshapes and declared outputs need.

Kept apart from the trace, which follows every index at sizes that are known: here onnx infers no more than the shapes,
of the whole graph at once, so that many sizes can be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx
import onnx_ir as ir

from slimnet.graph.evaluate import attribute
from slimnet.graph.inference import infer_all
from slimnet.graph.parameters import constant
from slimnet.graph.shapes import skeleton

Shape: TypeAlias = Sequence[int]
#: Two numbers that have to be equal: one that follows the sizes of the inputs, and what it has to be.
Pair: TypeAlias = tuple[int, int]
#: The sizes of a network's inputs that are to be found, by whatever name.
Sizes: TypeAlias = Mapping[Any, int]

#: The largest size that is looked at.
LARGEST = 1 << 20
#: So many things that do not fit are repaired, one after the other.
_REPAIRS = 4
#: Networks halve pictures and sounds, so that the sizes they are made for are multiples of these.
_ROUND = (32, 16, 8, 4, 2)


@dataclass(frozen=True)
class Misfit:
    """Something that a network cannot do at some input sizes.

    Attributes:
        place: The number of the node in the order of the graph, and of the pair of numbers there.
        got: The number as these sizes make it.
        wanted: What it has to be.
    """

    place: tuple[int, int]
    got: int
    wanted: int


class Fitting:
    """Says whether a network can take input sizes."""

    def __init__(self, model: ir.Model) -> None:
        self._nodes = list(model.graph)
        self._declared = {v.name: v.shape for v in model.graph.outputs if v.shape is not None}
        self._fixed = _fixed(model.graph)
        self._skeleton = skeleton(model)
        self._skeleton.graph.ClearField("value_info")
        for output in self._skeleton.graph.output:
            output.type.tensor_type.ClearField("shape")

    def misfit(self, inputs: Mapping[str, Shape]) -> Misfit | None:
        """The first thing in the order of the graph that does not fit; None where nothing is known not to."""
        shapes = self._inferred(inputs)
        pairs = [*(_Seen(node, shapes, self._fixed).pairs() for node in self._nodes), self._outputs(shapes)]
        places = (((k, j), *pair) for k, found in enumerate(pairs) for j, pair in enumerate(found))
        return next((Misfit(place, got, wanted) for place, got, wanted in places if got != wanted), None)

    def _inferred(self, inputs: Mapping[str, Shape]) -> dict[str | None, Shape]:
        """The shapes of all values of which every size is known."""
        for value in self._skeleton.graph.input:
            if value.name in inputs:
                dims = [onnx.TensorShapeProto.Dimension(dim_value=n) for n in inputs[value.name]]
                value.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto(dim=dims))
        graph = infer_all(self._skeleton)
        found: dict[str | None, Shape] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                found[value.name] = [d.dim_value for d in tensor.shape.dim]
        return found

    def _outputs(self, shapes: Mapping[str | None, Shape]) -> Iterator[Pair]:
        for name, declared in self._declared.items():
            shape = shapes.get(name)
            if shape is not None and len(shape) == len(declared):
                yield from ((n, d) for n, d in zip(shape, declared, strict=True) if isinstance(d, int) and d > 0)


def fitted(misfit: Callable[[Sizes], Misfit | None], sizes: Sizes, together: Iterable[Sequence[Any]]) -> Sizes | None:
    """Sizes with which nothing is known not to fit, as few as possible changed from those given.

    Args:
        misfit: Says what does not fit.
        sizes: The sizes to start from.
        together: The names of sizes that may be changed, each time to one and the same; earlier ones are tried first.

    Returns:
        The sizes; None where none were found.
    """
    ways = list(together)
    for _ in range(_REPAIRS):
        found = misfit(sizes)
        if found is None:
            return sizes
        changed = (_changed(misfit, sizes, names, found) for names in ways)
        better = next((each for each in changed if each is not None), None)
        if better is None:
            return None
        sizes = better
    return sizes if misfit(sizes) is None else None


def _changed(
    misfit: Callable[[Sizes], Misfit | None], sizes: Sizes, names: Sequence[Any], found: Misfit
) -> Sizes | None:
    """The smallest size for some names with which what was found does fit, or a round one with which it still does.

    What follows the size of an input grows with it, so that it is found by halving.
    """

    def at(size: int) -> Sizes:
        return {**sizes, **dict.fromkeys(names, size)}

    def short(size: int) -> bool:
        now = misfit(at(size))
        return now is not None and now.place <= found.place and now.got < now.wanted

    def fits(size: int) -> bool:
        now = misfit(at(size))
        return now is None or now.place > found.place

    low, high = 1, LARGEST
    if short(high) or not (short(low) or fits(low)):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if short(middle) else (low, middle)
    if not fits(low):
        return None
    round_ = (-(-low // step) * step for step in _ROUND)
    return at(next((size for size in round_ if fits(size)), low) if low > 1 else low)


def _fixed(graph: ir.Graph) -> set[ir.Value]:
    """The values that do not depend on the inputs of a network."""
    fixed = set(graph.initializers.values())
    for node in graph:
        if all(value is None or value in fixed for value in node.inputs):
            fixed.update(node.outputs)
    return fixed


# -- what nodes need ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """A node, the shapes that are known, and the values that do not depend on the inputs."""

    node: ir.Node
    shapes: Mapping[str | None, Shape]
    fixed: set[ir.Value]

    def shape(self, value: ir.Value | None) -> Shape | None:
        return None if value is None else self.shapes.get(value.name)

    def pairs(self) -> Iterator[Pair]:
        """The numbers that have to be equal for the node to run, as far as they are known."""
        kind = self.node.op_type
        if kind in _BROADCAST:
            yield from self._alike(lambda shape: shape, repeats=True)
        elif kind == "Concat":
            axis = self.node.attributes.get_int("axis", 0)
            yield from self._alike(lambda shape: [n for k, n in enumerate(shape) if k != axis % len(shape)])
        elif kind == "Reshape":
            yield from self._reshaped()
        elif kind in _CONTRACTED:
            yield from self._contracted()
        if kind in _WINDOWS and (made := self.shape(self.node.outputs[0])) is not None:
            yield from ((n, 1) for n in made if n < 1)

    def _alike(self, part: Callable[[Shape], Shape], repeats: bool = False) -> Iterator[Pair]:
        """Some axes of all inputs, counted from the last; what is fixed says how long they have to be."""
        given = [(value not in self.fixed, part(shape)) for value in self.node.inputs if (shape := self.shape(value))]
        shapes = [shape for _, shape in sorted(given, key=lambda each: each[0])]
        for k in range(1, max(map(len, shapes), default=0) + 1):
            lengths = [shape[-k] for shape in shapes if k <= len(shape) and not (repeats and shape[-k] == 1)]
            yield from ((got, lengths[0]) for got in lengths[1:])

    def _contracted(self) -> Iterator[Pair]:
        """The axes that the node sums over, or has a weight for each index of."""
        node, (first, second) = self.node, self.node.inputs[:2]
        a, b = self.shape(first), self.shape(second)
        i, j = _CONTRACTED[node.op_type]
        if node.op_type == "Gemm":
            i, j = 1 - bool(attribute(node, "transA", 0)), bool(attribute(node, "transB", 0))
        if node.op_type == "MatMul" and b is not None and len(b) == 1:
            j = -1
        if a is None or b is None or not (-len(a) <= i < len(a) and -len(b) <= j < len(b)):
            return
        pair = a[i], b[j] * (attribute(node, "group", 1) if node.op_type == "Conv" else 1)
        yield pair[::-1] if first in self.fixed else pair

    def _reshaped(self) -> Iterator[Pair]:
        """The number of elements of a Reshape; where a layer follows, pixels must not become samples."""
        node = self.node
        data, made = self.shape(node.inputs[0]), self.shape(node.outputs[0])
        tensor = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if data is None:
            return
        total, target = math.prod(data), made if tensor is None else tensor.numpy().ravel().tolist()
        if target is None or 0 in target:
            return
        known = math.prod(n for n in target if n > 0)
        if min(target, default=1) > 0:
            yield total, known
        elif target[0] == -1 and len(target) < len(data) and self._flattens(data, known):
            yield total, known * data[0]
        elif total % known:
            yield total, known * max(1, total // known)

    def _flattens(self, data: Shape, length: int) -> bool:
        """Whether rows of this length are whole samples: all of their channels, which a matrix product reads."""
        read = any(node.op_type in ("Gemm", "MatMul") for node in self.node.outputs[0].consumers())
        return read and data[1] > 0 and length % data[1] == 0 and data[-1] != length


_BROADCAST = frozenset("Add Sub Mul Div Pow Min Max Sum Mean Where PRelu And Or Equal Greater Less".split())
_WINDOWS = frozenset("Conv ConvTranspose MaxPool AveragePool LpPool".split())
#: The axes of the first two inputs that have to be equally long; those of a Gemm depend on its attributes.
_CONTRACTED = {
    **{"MatMul": (-1, -2), "Gemm": (1, 0), "Conv": (1, 1), "ConvTranspose": (1, 0)},
    **{"BatchNormalization": (1, 0), "InstanceNormalization": (1, 0), "LSTM": (2, 2), "GRU": (2, 2), "RNN": (2, 2)},
}
