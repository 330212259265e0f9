"""Where weights are fitted: layers of the slim network, what follows them that is linear as well, and what they add to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.evaluate import read_by
from slimnet.graph.layers import layer_name
from slimnet.graph.units import Trace
from slimnet.recovery.operators import OPERATORS, Layer
from slimnet.verification.observe import kept_indices

Array = npt.NDArray[np.generic]
Kept = Mapping[int, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Weight:
    """A weight of the slim network and the weight of the dense one that it is a part of.

    Attributes:
        name: The name of the dense network's initializer.
        value: The slim network's initializer.
        turns: The axes of the initializer in the order of the slim one's, which the graph turns before it is read.
        kept: For each axis of the dense initializer its kept indices.
    """

    name: str
    value: ir.Value
    turns: tuple[int, ...]
    kept: tuple[npt.NDArray[np.int64], ...]

    @property
    def array(self) -> Array:
        """What it is now."""
        assert self.value.const_value is not None
        return self.value.const_value.numpy()

    def set(self, array: Array) -> None:
        """Change it in the slim network."""
        assert self.value.const_value is not None
        dtype = self.value.const_value.dtype
        self.value.const_value = ir.Tensor(np.ascontiguousarray(array, dtype.numpy()), dtype, name=self.value.name)

    def into(self, dense: Array) -> Array:
        """The dense weight with what is kept as it is now."""
        whole = dense.copy()
        whole[np.ix_(*self.kept)] = self.array.transpose(np.argsort(self.turns))
        return whole


@dataclass(frozen=True)
class Norm:
    """A batch norm right behind a layer: what it adds may change, by what it multiplies does not."""

    factor: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    bias: Weight


@dataclass(frozen=True)
class Site:
    """A layer whose weight is fitted.

    Attributes:
        name: What the layer is called.
        layer: What it computes.
        node: Its node in the slim network.
        weight: Its weight.
        bias: What is added to it, if there is something that may change.
        norm: The batch norm behind it, if there is one.
        data: The name of its input.
        goal: The name of what it gives, with bias and batch norm.
        total: The name of the sum that this goes into, where it goes nowhere else.
        other: The name of what is added to it there.
    """

    name: str
    layer: Layer
    node: ir.Node
    weight: Weight
    bias: Weight | None
    norm: Norm | None
    data: str
    goal: str
    total: str | None = None
    other: str | None = None

    @property
    def target(self) -> str:
        """The value of the dense network that is to be met."""
        return self.total or self.goal


def sites(trace: Trace, removed: Bools, slim: ir.Model) -> list[Site]:
    """The layers of a slim network whose weights can be fitted, in the order of the graph.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        slim: The slim network; its values have the names of the dense one's.
    """
    finder = _Finder(trace, removed)
    found = [site for node in slim.graph if (site := finder.site(node)) is not None]
    return [finder.with_sum(site, {later.node for later in found[k:]}) for k, site in enumerate(found)]


class _Finder:
    def __init__(self, trace: Trace, removed: Bools) -> None:
        self._trace, self._removed = trace, removed
        graph = trace.net.model.graph
        self._initializers = graph.initializers
        self._nodes = {str(node.outputs[0].name): node for node in graph if node.outputs[0].name}
        self._values = {str(value.name): value for value in trace.values}

    def site(self, node: ir.Node) -> Site | None:
        """The layer that a node is, if its weight can be fitted."""
        name = str(node.outputs[0].name)
        dense = self._nodes.get(name)
        make = None if node.domain else OPERATORS.get(node.op_type)
        if make is None or dense is None or dense.op_type != node.op_type:
            return None
        shape = self._trace.shape_of(dense.outputs[0])
        layer = make(node, len(shape or ()), lambda place: self._weight(node, dense, place) is not None)
        weight = None if layer is None else self._weight(node, dense, layer.weight)
        if layer is None or weight is None or (data := node.inputs[layer.data]) is None:
            return None
        bias = None if layer.bias is None else self._weight(node, dense, layer.bias)
        fixed = layer.bias is not None and len(node.inputs) > layer.bias and node.inputs[layer.bias] is not None
        value = node.outputs[0]
        if bias is None and not fixed and (added := self._added(value)) is not None:
            value, bias = added
        norm = self._norm(value)
        value = value.consumers()[0].outputs[0] if norm is not None else value
        goal = str(value.name)
        return (
            Site(layer_name(node), layer, node, weight, bias, norm, str(data.name), goal) if self._fits(value) else None
        )

    def with_sum(self, site: Site, unfitted: set[ir.Node]) -> Site:
        """The layer with the sum that it goes into, where the other side does not wait for layers still to be fitted."""
        goal = next(v for v in _outputs(site) if v.name == site.goal)
        add = _only_consumer(goal)
        if add is None or add.op_type != "Add" or add.domain or not self._fits(add.outputs[0]):
            return site
        other = add.inputs[1] if add.inputs[0] is goal else add.inputs[0]
        if other is None or other is goal or other.is_initializer() or other.name not in self._values:
            return site
        alike = self._trace.shape_of(self._values[str(other.name)]) == self._trace.shape_of(self._values[site.goal])
        if not alike or _behind(other) & unfitted:
            return site
        return Site(**{**vars(site), "total": str(add.outputs[0].name), "other": str(other.name)})

    def _fits(self, value: ir.Value) -> bool:
        dense = self._values.get(str(value.name))
        return dense is not None and self._trace.shape_of(dense) is not None

    def kept(self, name: str) -> Kept:
        """Which indices of a value's axes the slim network has."""
        return kept_indices(self._trace, self._removed, self._values[name])

    def _weight(self, node: ir.Node, dense: ir.Node, place: int) -> Weight | None:
        """An input of a node that is a weight of its own, floating and cut by nothing but indices."""
        if place >= len(node.inputs) or place >= len(dense.inputs):
            return None
        mine, theirs = node.inputs[place], dense.inputs[place]
        if mine is None or theirs is None or not _is_own(mine):
            return None
        turns = None
        producer = theirs.producer()
        if producer is not None and producer.op_type == "Transpose" and len(theirs.uses()) == 1:
            theirs, turns = producer.inputs[0], producer.attributes.get_ints("perm", None)
        if theirs is None or not _is_own(theirs) or theirs.name not in self._initializers:
            return None
        tensor, now = theirs.const_value, mine.const_value
        if tensor is None or now is None or not tensor.dtype.is_floating_point():
            return None
        name, array = str(theirs.name), tensor.numpy()
        kept = tuple(self._kept(name, axis, n) for axis, n in enumerate(array.shape))
        order = tuple(turns) if turns is not None else tuple(range(array.ndim))
        if producer is not None and turns is None:
            order = order[::-1]
        part = array[np.ix_(*kept)].transpose(order)
        return Weight(name, mine, order, kept) if np.array_equal(part, now.numpy()) else None

    def _kept(self, name: str, axis: int, size: int) -> npt.NDArray[np.int64]:
        followed = self._trace.units_on(name, axis) is not None
        return np.flatnonzero(self._trace.kept(name, axis, self._removed)) if followed else np.arange(size)

    def _added(self, value: ir.Value) -> tuple[ir.Value, Weight] | None:
        """A bias that is added to the last axis by a node of its own, and the sum."""
        add = _only_consumer(value)
        if add is None or add.op_type != "Add" or add.domain:
            return None
        dense = self._nodes.get(str(add.outputs[0].name))
        place = 1 if add.inputs[0] is value else 0
        weight = None if dense is None else self._weight(add, dense, place)
        return (add.outputs[0], weight) if weight is not None and weight.array.ndim == 1 else None

    def _norm(self, value: ir.Value) -> Norm | None:
        node = _only_consumer(value)
        if node is None or node.op_type != "BatchNormalization" or node.domain or len(node.outputs) > 1:
            return None
        dense = self._nodes.get(str(node.outputs[0].name))
        tensors = [v.const_value for v in node.inputs[1:] if v is not None]
        bias = None if dense is None else self._weight(node, dense, 2)
        if bias is None or len(tensors) < 4 or any(t is None for t in tensors):
            return None
        scale, _, mean, variance = (t.numpy().astype(np.float64) for t in tensors if t is not None)
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        return Norm(factor, mean, bias)


def _is_own(value: ir.Value) -> bool:
    """Whether a value is a weight that nothing else reads."""
    return value.is_initializer() and len(value.uses()) == 1 and not value.is_graph_output()


def _only_consumer(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _outputs(site: Site) -> Iterator[ir.Value]:
    """What the nodes of a layer give, one after the other."""
    value: ir.Value | None = site.node.outputs[0]
    while value is not None:
        yield value
        following = _only_consumer(value)
        value = None if following is None or value.name == site.goal else following.outputs[0]


def _behind(value: ir.Value) -> set[ir.Node]:
    """The nodes that a value is computed by."""
    found: set[ir.Node] = set()
    ahead = [value]
    while ahead:
        node = ahead.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            ahead += read_by(node)
    return found
