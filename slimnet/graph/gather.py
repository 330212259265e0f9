"""Remove inputs that a layer ignores although what makes them is kept: a pixel, or one position of a flattened map.

Nothing upstream can be cut for them, but the layer need not read them: it gets a Gather of those it does read, and a
smaller weight. That is how a network whose first layer uses 353 of 784 pixels really becomes smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Integers
from slimnet.graph.parameters import constant, tensor_of
from slimnet.graph.rules.linear import Contraction, contraction
from slimnet.graph.surgery import names_of


@dataclass(frozen=True)
class _Reader:
    """A layer and how it reads its data."""

    node: ir.Node
    how: Contraction


def gather(model: ir.Model, least: float = 0.25) -> tuple[ir.Model, dict[str, tuple[int, int]]]:
    """Let layers read only the inputs that their weights use.

    Layers are convolutions without groups and products with a constant matrix. Those that read the same indices of
    the same value share one Gather. Outputs do not change but for the order in which floats are added up, as long as
    the ignored inputs are finite.

    Args:
        model: The network, left as it is.
        least: The fraction of zero slices from which a layer is changed, for a Gather takes time too.

    Returns:
        A changed copy, and for every weight that was cut its number of inputs before and after, by name. A weight that
        is all zero keeps one input; one that is used in several ways, or by anything else, is left alone.
    """
    copy = model.clone()
    reads = _Gathers(copy)
    cut: dict[str, tuple[int, int]] = {}
    planned: dict[tuple[ir.Node, int], tuple[_Reader, Integers]] = {}
    for weight in dict.fromkeys(value for node in copy.graph for value in node.inputs if value is not None):
        readers = _readers(weight, copy.graph)
        if not readers:
            continue
        array, axis = tensor_of(weight).numpy(), readers[0].how.weight_axis
        kept = _kept(array, axis)
        before = array.shape[axis]
        if len(kept) == before or before - len(kept) < least * before:
            continue
        _set_tensor(weight, array.take(kept, axis))
        cut[weight.name or ""] = before, len(kept)
        planned |= {(reader.node, reader.how.data): (reader, kept) for reader in readers}
    for node in list(copy.graph):
        for place in (0, 1):
            if (node, place) in planned:
                node.replace_input_with(place, reads.of(*planned[node, place]))
    return copy, cut


def _kept(array: npt.NDArray[Any], axis: int) -> Integers:
    """The slices along an axis that hold anything but zeros; the first one where none does."""
    used = (array != 0).any(axis=tuple(k for k in range(array.ndim) if k != axis))
    return np.flatnonzero(used) if used.any() else np.arange(min(1, len(used)))


class _Gathers:
    """The Gather nodes put into a model so far."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.taken = names_of(model)
        self.made: dict[tuple[ir.Value, int, bytes], ir.Value] = {}
        self.indices: dict[bytes, ir.Value] = {}

    def of(self, reader: _Reader, kept: Integers) -> ir.Value:
        """The kept indices of the data of a layer; layers have to come in the order of the graph."""
        data = reader.node.inputs[reader.how.data]
        assert data is not None
        axis = reader.how.data_axis if data.shape is None else reader.how.data_axis % len(data.shape)
        key = data, axis, kept.tobytes()
        if key not in self.made:
            self.made[key] = self._insert(reader.node, data, axis, kept)
        return self.made[key]

    def _insert(self, reader: ir.Node, data: ir.Value, axis: int, kept: Integers) -> ir.Value:
        node = ir.node("Gather", [data, self._constant(kept)], {"axis": axis})
        node.name = node.outputs[0].name = self._name(f"{data.name}_used")
        node.outputs[0].type = data.type
        if data.shape is not None:
            dims = list(data.shape)
            dims[axis] = len(kept)
            node.outputs[0].shape = ir.Shape(dims)
        self.graph.insert_before(reader, node)
        return node.outputs[0]

    def _constant(self, kept: Integers) -> ir.Value:
        key = kept.tobytes()
        if key not in self.indices:
            tensor = ir.Tensor(kept, name=self._name("used_indices"))
            value = ir.Value(name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            self.graph.register_initializer(value)
            self.indices[key] = value
        return self.indices[key]

    def _name(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


# -- layers and their weights ----------------------------------------------------------------------------------------


def _readers(weight: ir.Value, graph: ir.Graph) -> list[_Reader]:
    """All layers that use a constant weight; none if not every use is one, or if they sum over different axes of it."""
    if constant(weight) is None or weight.is_graph_input() or weight.is_graph_output():
        return []
    readers = [_reader(node, place) if node.graph is graph else None for node, place in weight.uses()]
    found = [reader for reader in readers if reader is not None]
    alike = len(found) == len(readers) and len({reader.how.weight_axis for reader in found}) == 1
    return found if alike else []


def _reader(node: ir.Node, place: int) -> _Reader | None:
    """A layer with the constant in its input `place` as its weight, if it is one."""
    how = contraction(node, place)
    data = None if how is None else node.inputs[how.data]
    return None if how is None or data is None or _is_known(data) else _Reader(node, how)


def _is_known(value: ir.Value) -> bool:
    producer = value.producer()
    return value.const_value is not None if producer is None else producer.op_type == "Constant"


def _set_tensor(weight: ir.Value, array: npt.NDArray[Any]) -> None:
    tensor = ir.Tensor(np.asarray(array, order="C"), tensor_of(weight).dtype, name=weight.name)
    producer = weight.producer()
    if producer is None:
        weight.const_value = tensor
    else:
        producer.attributes["value"] = ir.AttrTensor("value", tensor)
    weight.shape = ir.Shape(array.shape)
