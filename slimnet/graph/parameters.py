"""The constant tensors of a network, and what each of their axes is for."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Labels
from slimnet.graph.evaluate import constant_of_shape, evaluate
from slimnet.graph.registry import STANDARD, Trait, traits_of_operator

if TYPE_CHECKING:
    from slimnet.graph.op import Traced


class Role(enum.IntFlag):
    """What an axis of a parameter does for a unit; one axis may do several things in different uses."""

    OUT = 1
    IN = 2
    ALONG = 4
    #: A scale, running variance or divisor: cut with the unit, but never set to zero by a mask.
    UNTOUCHED = 8


@dataclass(frozen=True)
class Use:
    """What a parameter is for an operator: the first or second input, the scale, ...

    Attributes:
        op: The name of the operator, such as "Conv".
        input: The name that the operator's rule gives the input, such as "W".
        groups: The number of groups that the layer falls into.
        domain: The domain of the operator.
    """

    op: str
    input: str
    groups: int = 1
    domain: str = STANDARD

    @property
    def traits(self) -> Trait:
        """What is known of the operator."""
        return traits_of_operator(self.op, self.domain)

    def __str__(self) -> str:
        """The form used in JSON: "Conv.W", or "Conv.W[4]" with groups; empty for `NO_USE`."""
        return f"{self.op}.{self.input}" + (f"[{self.groups}]" if self.groups > 1 else "") if self.op else ""


#: A parameter that no rule has named.
NO_USE = Use("", "")


@dataclass(slots=True, eq=False)
class ParameterAxis:
    """One axis of one constant tensor, of which some indices could be removed.

    Tensors of rank 2 and more have one for each axis, shared by all uses. Vectors and computed constants have their own
    for every use, since exporters merge equal ones.

    Attributes:
        name: The name of the tensor; "name@node:input" for one use among several.
        axis: The number of the axis, counted from 0.
        labels: The labels of its indices.
        shape: The shape of the tensor.
        value: The tensor's value in the graph.
        node: The node whose input `place` this use is; None where all uses share the axis.
        place: The number of the input of `node`.
        data: The tensor's elements where the graph computes them, None elsewhere.
        filler: The ConstantOfShape node behind a large tensor, if there is one.
        known: What is known of the values that the tensor is computed of, where it is settled (see `edits.Settle`).
        role: What the axis does, in all uses together; known when the whole graph has been walked.
        use: What the tensor is for the operator that reads it; the last use where there are several.
    """

    name: str
    axis: int
    labels: Labels
    shape: tuple[int, ...]
    value: ir.Value
    node: ir.Node | None = None
    place: int = 0
    data: npt.NDArray[Any] | None = None
    filler: ir.Node | None = None
    known: Mapping[ir.Value, Traced] | None = None
    role: Role = Role.ALONG
    use: Use = NO_USE

    @property
    def key(self) -> tuple[str, int]:
        """Tensor and axis number, by which members and plans name it."""
        return self.name, self.axis

    @property
    def array(self) -> npt.NDArray[Any]:
        """The elements of the tensor, as they are in the graph now."""
        if self.data is not None:
            return self.data
        if self.filler is not None:
            return np.broadcast_to(constant_of_shape(self.filler), self.shape)
        return tensor_of(self.value).numpy() if self.known is None else computed(self.value, self.known)

    @property
    def is_weight(self) -> bool:
        """Whether this is a side of a layer's weight: its filters or its channels."""
        return len(self.shape) > 1 and bool(self.role & (Role.OUT | Role.IN))


class Parameters(Mapping[str, npt.NDArray[Any]]):
    """Values of constant tensors by name, each read when it is asked for."""

    def __init__(self, axes: Mapping[str, ParameterAxis]) -> None:
        self._axes = axes

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._axes[name].array

    def __iter__(self) -> Iterator[str]:
        return iter(self._axes)

    def __len__(self) -> int:
        return len(self._axes)


def constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor behind an initializer or a Constant node; None for any other value."""
    producer = None if value is None else value.producer()
    if producer is not None:
        return producer.attributes.get_tensor("value") if producer.op_type == "Constant" else None
    return None if value is None else value.const_value


def set_weights(model: ir.Model, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Give initializers of the main graph other values, in place; they keep their types."""
    for name, array in weights.items():
        value = model.graph.initializers[name]
        assert value.const_value is not None
        dtype = value.const_value.dtype
        value.const_value = ir.Tensor(np.asarray(array, dtype.numpy(), order="C"), dtype, name=name)


def tensor_of(value: ir.Value) -> ir.TensorProtocol:
    """The tensor behind a value that is known to have one."""
    tensor = constant(value)
    assert tensor is not None, f"{value.name} is no constant"
    return tensor


def computed(
    value: ir.Value, values: Mapping[ir.Value, Traced], weights: Mapping[str, npt.NDArray[Any]] | None = None
) -> npt.NDArray[Any]:
    """What a value is that constants of the graph alone go into.

    Args:
        value: The value.
        values: What is known of each value.
        weights: What stands in for initializers, by name.
    """
    found: dict[ir.Value, npt.NDArray[Any]] = {}
    waiting = [value]
    while waiting:
        current = waiting[-1]
        node, traced = current.producer(), values.get(current)
        if traced is not None and traced.data is not None:
            found[current] = traced.data
        elif (tensor := constant(current)) is not None:
            found[current] = (weights or {}).get(current.name or "", tensor.numpy())
        if current in found:
            waiting.pop()
            continue
        assert node is not None, f"{current.name} is no constant"
        missing = [v for v in node.inputs if v is not None and v not in found]
        if not missing:
            results = evaluate(node, [None if v is None else found[v] for v in node.inputs], limit=None)
            found |= zip(node.outputs, results, strict=False)
        waiting += missing
    return found[value]
