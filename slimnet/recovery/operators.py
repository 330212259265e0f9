"""Operators whose output is linear in a weight: what they multiply it with, laid out as a matrix.

Each operator turns its input into features [groups, positions, features], its output into targets
[groups, positions, outputs] and its weight into matrices [groups, outputs, features], so that
targets = features x matrix^T for every group. To add an operator, write a class, and `layer_of` it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]


class Linear(Protocol):
    """An operator that is linear in its weight."""

    def places(self, y: tuple[int, ...]) -> int:
        """The number of positions of an output of some shape: rows that the weight is fitted on."""

    def features(self, x: Array, y: tuple[int, ...], at: Positions) -> Array:
        """What the weight is multiplied with at some positions of an output of shape `y`."""

    def targets(self, y: Array, at: Positions) -> Array:
        """The output at some positions."""

    def matrices(self, weight: Array) -> Array:
        """The weight as matrices [groups, outputs, features]."""

    def weight(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """Matrices as a weight of some shape."""


@dataclass(frozen=True)
class Product:
    """MatMul or Gemm with a constant: the weight is [features, outputs], or [outputs, features] where `turned`.

    Attributes:
        axis: The axis of the input that is summed over, and of the output that it becomes: -1, or -2 where the constant
            stands on the left.
        turned: Whether the outputs are axis 0 of the weight.
    """

    axis: int = -1
    turned: bool = False

    def places(self, y: tuple[int, ...]) -> int:
        return math.prod(y) // max(1, y[self.axis])

    def features(self, x: Array, y: tuple[int, ...], at: Positions) -> Array:
        return self.targets(x, at)

    def targets(self, y: Array, at: Positions) -> Array:
        lines = np.moveaxis(y, self.axis, -1)
        return lines[np.unravel_index(at, lines.shape[:-1])][None]

    def matrices(self, weight: Array) -> Array:
        return (weight if self.turned else weight.T)[None]

    def weight(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        return matrices[0] if self.turned else matrices[0].T


@dataclass(frozen=True)
class Convolution:
    """Conv of any rank, in groups; the weight is [outputs, inputs / groups, *kernel].

    Attributes:
        kernel: The sizes of the kernel.
        strides: The steps of the kernel along each axis.
        dilations: The distances of its elements.
        pads: The zeros before and after each axis, or where they are chosen by the input's size, how.
        groups: The number of groups.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | str
    groups: int = 1

    def places(self, y: tuple[int, ...]) -> int:
        return math.prod(y) // max(1, y[1])

    def features(self, x: Array, y: tuple[int, ...], at: Positions) -> Array:
        padded = np.pad(x, ((0, 0), (0, 0), *self._padded(x.shape[2:])))
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        axes = tuple(range(2, x.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
        windows = windows[_every(1, 1, *self.strides, *self.dilations)]
        n, *place = np.unravel_index(at, (y[0], *y[2:]))
        found = windows[(n, slice(None), *place)]
        return found.reshape(len(at), self.groups, -1).transpose(1, 0, 2)

    def targets(self, y: Array, at: Positions) -> Array:
        return _channels(y, at, self.groups)

    def matrices(self, weight: Array) -> Array:
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def weight(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        return matrices.reshape(shape)

    def _padded(self, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
        if not isinstance(self.pads, str):
            return list(self.pads)
        found = []
        for size, k, s, d in zip(sizes, self.kernel, self.strides, self.dilations, strict=True):
            total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            before = total // 2 if self.pads == "SAME_UPPER" else total - total // 2
            found.append((before, total - before) if self.pads.startswith("SAME") else (0, 0))
        return found


@dataclass(frozen=True)
class Transposed:
    """ConvTranspose of any rank, in groups; the weight is [inputs, outputs / groups, *kernel].

    It is a convolution with the kernel turned around, of the input with zeros between its elements.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    more: tuple[int, ...]
    groups: int = 1

    def places(self, y: tuple[int, ...]) -> int:
        return self._convolution.places(y)

    def features(self, x: Array, y: tuple[int, ...], at: Positions) -> Array:
        sizes = ((n - 1) * s + 1 for n, s in zip(x.shape[2:], self.strides, strict=True))
        spread = np.zeros((*x.shape[:2], *sizes), x.dtype)
        between: Any = _every(1, 1, *self.strides)
        spread[between] = x
        return self._convolution.features(spread, y, at)

    def targets(self, y: Array, at: Positions) -> Array:
        return self._convolution.targets(y, at)

    def matrices(self, weight: Array) -> Array:
        return self._convolution.matrices(self._turned(weight))

    def weight(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        inputs, outputs, *kernel = shape
        turned = matrices.reshape(self.groups, outputs, inputs // self.groups, *kernel)
        axes = tuple(range(3, turned.ndim))
        return np.flip(turned.swapaxes(1, 2), axes).reshape(shape)

    def _turned(self, weight: Array) -> Array:
        """The weight of the convolution: [outputs, inputs / groups, *kernel], turned around."""
        inputs, outputs, *kernel = weight.shape
        parts = weight.reshape(self.groups, inputs // self.groups, outputs, *kernel).swapaxes(1, 2)
        axes = tuple(range(3, parts.ndim))
        return np.flip(parts, axes).reshape(self.groups * outputs, inputs // self.groups, *kernel)

    @property
    def _convolution(self) -> Convolution:
        ones = (1,) * len(self.kernel)
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True)]
        pads = tuple((r - p, r - q + m) for r, (p, q), m in zip(reach, self.pads, self.more, strict=True))
        return Convolution(self.kernel, ones, self.dilations, pads, self.groups)


@dataclass(frozen=True)
class Scale:
    """A number for each channel, as in a batch norm: the weight is [channels]."""

    def places(self, y: tuple[int, ...]) -> int:
        return math.prod(y) // max(1, y[1])

    def features(self, x: Array, y: tuple[int, ...], at: Positions) -> Array:
        return self.targets(x, at)

    def targets(self, y: Array, at: Positions) -> Array:
        return _channels(y, at, y.shape[1])

    def matrices(self, weight: Array) -> Array:
        return weight[:, None, None]

    def weight(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        return matrices.reshape(shape)


def _every(*steps: int) -> Any:
    """An index that takes every so-many-th element of each axis."""
    return tuple(slice(None, None, step) for step in steps)


def _channels(y: Array, at: Positions, groups: int) -> Array:
    n, *place = np.unravel_index(at, (y.shape[0], *y.shape[2:]))
    index: Any = (n, slice(None), *place)
    return y[index].reshape(len(at), groups, -1).transpose(1, 0, 2)


# -- from nodes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A node that is linear in a constant: how, and which of its inputs are what.

    Attributes:
        operator: What it computes.
        data: The place of the input that the weight is multiplied with.
        weight: The place of the weight.
        bias: The place of the bias, if it may have one.
    """

    operator: Linear
    data: int = 0
    weight: int = 1
    bias: int | None = None


#: Makes of a node a layer; the rank is that of its output, and the function says which of its inputs are weights.
Maker: TypeAlias = Callable[[ir.Node, int, Callable[[int], bool]], Layer | None]
OPERATORS: dict[str, Maker] = {}


def layer_of(operator: str) -> Callable[[Maker], Maker]:
    """Register what makes a layer of a node of this operator; it gives None for a node that is no plain product."""

    def register(make: Maker) -> Maker:
        OPERATORS[operator] = make
        return make

    return register


@layer_of("Conv")
def _conv(node: ir.Node, rank: int, is_weight: Callable[[int], bool]) -> Layer | None:
    sizes = node.inputs[1].shape if node.inputs[1] is not None else None
    if sizes is None or not is_weight(1):
        return None
    kernel = tuple(int(n) for n in sizes.numpy()[2:])
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    pads = _pads(node, len(kernel)) if auto == "NOTSET" else auto
    strides, dilations = _ints(node, "strides", len(kernel)), _ints(node, "dilations", len(kernel))
    groups = node.attributes.get_int("group", 1)
    return Layer(Convolution(kernel, strides, dilations, pads, groups), bias=2)


@layer_of("ConvTranspose")
def _conv_transpose(node: ir.Node, rank: int, is_weight: Callable[[int], bool]) -> Layer | None:
    sizes = node.inputs[1].shape if node.inputs[1] is not None else None
    automatic = node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes
    if sizes is None or automatic or not is_weight(1):
        return None
    kernel = tuple(int(n) for n in sizes.numpy()[2:])
    strides, dilations = _ints(node, "strides", len(kernel)), _ints(node, "dilations", len(kernel))
    more = tuple(node.attributes.get_ints("output_padding", [0] * len(kernel)))
    groups = node.attributes.get_int("group", 1)
    return Layer(Transposed(kernel, strides, dilations, _pads(node, len(kernel)), more, groups), bias=2)


@layer_of("MatMul")
def _matmul(node: ir.Node, rank: int, is_weight: Callable[[int], bool]) -> Layer | None:
    if is_weight(1):
        return Layer(Product())
    return Layer(Product(axis=-2, turned=True), data=1, weight=0) if is_weight(0) and rank > 1 else None


@layer_of("Gemm")
def _gemm(node: ir.Node, rank: int, is_weight: Callable[[int], bool]) -> Layer | None:
    get = node.attributes.get_float
    plain = get("alpha", 1.0) == get("beta", 1.0) == 1.0 and not node.attributes.get_int("transA", 0)
    turned = bool(node.attributes.get_int("transB", 0))
    return Layer(Product(turned=turned), bias=2) if plain and is_weight(1) else None


def _pads(node: ir.Node, rank: int) -> tuple[tuple[int, int], ...]:
    pads = node.attributes.get_ints("pads", [0] * (2 * rank))
    return tuple((int(pads[k]), int(pads[k + rank])) for k in range(rank))


def _ints(node: ir.Node, name: str, rank: int) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints(name, [1] * rank))
