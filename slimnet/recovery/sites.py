"""Where weights are fitted: layers of the slim network, what is linear behind them, and the sums they go into."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.evaluate import read_by
from slimnet.graph.layers import layer_name
from slimnet.graph.parameters import constant
from slimnet.graph.units import Trace
from slimnet.recovery.fit import NONE, Saturation
from slimnet.recovery.operators import OPERATORS, Layer

Array = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]
#: What a norm scales by less than this part of its largest factor is not fitted: it would need huge weights.
_SMALL = 1e-3


@dataclass(frozen=True)
class Weight:
    """A weight of the slim network and the weight of the dense one that it is a part of.

    Attributes:
        name: The name of the dense network's initializer.
        value: The slim network's initializer.
        kept: For each axis of the dense initializer its kept indices.
        turns: The axes of the dense initializer in the order in which the layer reads them.
        is_turned: Whether the slim network's initializer has them in that order.
    """

    name: str
    value: ir.Value
    kept: tuple[npt.NDArray[np.int64], ...]
    turns: tuple[int, ...]
    is_turned: bool

    @property
    def array(self) -> Array:
        """What it is now, as the layer reads it."""
        assert self.value.const_value is not None
        array = self.value.const_value.numpy()
        return array if self.is_turned else array.transpose(self.turns)

    def set(self, array: Array) -> None:
        """Change it in the slim network."""
        assert self.value.const_value is not None
        dtype = self.value.const_value.dtype
        array = array if self.is_turned else array.transpose(np.argsort(self.turns))
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
        saturation: What hides differences behind it, where nothing else reads it.
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
    saturation: Saturation = NONE

    @property
    def target(self) -> str:
        """The value of the dense network that is to be met."""
        return self.total or self.goal

    @property
    def is_free(self) -> bool:
        """Whether what is added may change."""
        return self.bias is not None or self.norm is not None

    @property
    def weights(self) -> list[Weight]:
        """The weights that may change."""
        norm = None if self.norm is None else self.norm.bias
        return [weight for weight in (self.weight, self.bias, norm) if weight is not None]

    def effective(self) -> tuple[Doubles, Doubles]:
        """The weight as matrices [groups, outputs, features] and the constant [groups, outputs], behind the norm."""
        factor, offset = self._norm_of()
        weight = self.layer.operator.matrices(self.weight.array).astype(np.float64)
        return weight * factor[..., None], factor * self._constant(factor.shape) + offset

    def set_effective(self, weight: Doubles, bias: Doubles) -> None:
        """Change weight and constant so that behind the norm they are these; what the norm scales to zero stays."""
        factor, offset = self._norm_of()
        now = self.layer.operator.matrices(self.weight.array).astype(np.float64)
        steady = np.abs(factor) > _SMALL * np.abs(factor).max()
        new = np.where(steady[..., None], weight / np.where(steady, factor, 1)[..., None], now)
        self.weight.set(self.layer.operator.weight(new, self.weight.array.shape))
        if self.norm is not None:
            own = self.norm.bias.array.reshape(factor.shape)
            self.norm.bias.set((bias - factor * self._constant(factor.shape) - offset + own).reshape(-1))
        elif self.bias is not None:
            self.bias.set(bias.reshape(-1))

    def _norm_of(self) -> tuple[Doubles, Doubles]:
        """What the norm multiplies by and adds, each [groups, outputs]."""
        shape = self.layer.operator.matrices(self.weight.array).shape[:2]
        if self.norm is None:
            return np.ones(shape), np.zeros(shape)
        factor = self.norm.factor
        return factor.reshape(shape), (self.norm.bias.array - factor * self.norm.mean).reshape(shape)

    def _constant(self, shape: tuple[int, ...]) -> Doubles:
        return np.zeros(shape) if self.bias is None else self.bias.array.astype(np.float64).reshape(shape)


def sites(
    trace: Trace, removed: Bools, slim: ir.Model, only: Collection[str] | None = None, in_turn: bool = True
) -> list[Site]:
    """The layers of a slim network whose weights can be fitted, in the order of the graph.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        slim: The slim network; its values have the names of the dense one's.
        only: The names of the dense weights that may change; None for all.
        in_turn: Whether the layers are fitted in this order, so that one looks at the sum it goes into only where the
            other side is fitted before it.
    """
    finder = _Finder(trace, removed, only)
    found = [site for node in slim.graph if (site := finder.site(node)) is not None]
    latest = _latest(slim, found) if in_turn else {}
    summed = (finder.with_sum(site, k, latest) for k, site in enumerate(found))
    return [replace(site, saturation=finder.saturation(site)) for site in summed]


class _Finder:
    def __init__(self, trace: Trace, removed: Bools, only: Collection[str] | None) -> None:
        self._trace, self._removed, self._only = trace, removed, only
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

    def with_sum(self, site: Site, number: int, latest: Mapping[ir.Value, int]) -> Site:
        """The layer of this number with the sum it goes into, where the other side waits for no layer from it on."""
        goal = next(v for v in _outputs(site) if v.name == site.goal)
        add = _only_consumer(goal)
        if add is None or add.op_type != "Add" or add.domain or not self._fits(add.outputs[0]):
            return site
        other = add.inputs[1] if add.inputs[0] is goal else add.inputs[0]
        if other is None or other is goal or other.is_initializer() or other.name not in self._values:
            return site
        alike = self._trace.shape_of(self._values[str(other.name)]) == self._trace.shape_of(self._values[site.goal])
        if not alike or latest.get(other, -1) >= number:
            return site
        return replace(site, total=str(add.outputs[0].name), other=str(other.name))

    def saturation(self, site: Site) -> Saturation:
        """What hides differences of what a layer gives, or of the sum that it goes into."""
        value = self._values[site.target]
        reading = {use.node for use in value.uses()}
        if value.is_graph_output() or not reading:
            return NONE
        found = [_saturation(node) for node in reading]
        return Saturation(min(s.low for s in found), max(s.high for s in found))

    def _fits(self, value: ir.Value) -> bool:
        dense = self._values.get(str(value.name))
        return dense is not None and self._trace.shape_of(dense) is not None

    def _weight(self, node: ir.Node, dense: ir.Node, place: int) -> Weight | None:
        """An input of a node that is a weight of its own, floating and cut by nothing but indices."""
        if place >= len(node.inputs) or place >= len(dense.inputs):
            return None
        mine, (theirs, turns) = node.inputs[place], _before_turning(dense.inputs[place])
        if theirs is None or not _is_own(theirs) or not self._may_change(str(theirs.name)):
            return None
        is_turned = mine is not None and mine.is_initializer()
        mine = mine if is_turned else _before_turning(mine)[0]
        if mine is None or not _is_own(mine):
            return None
        tensor, now = theirs.const_value, mine.const_value
        if tensor is None or now is None or not tensor.dtype.is_floating_point():
            return None
        name, array = str(theirs.name), tensor.numpy()
        kept = tuple(self._kept(name, axis, n) for axis, n in enumerate(array.shape))
        weight = Weight(name, mine, kept, turns or tuple(range(array.ndim)), is_turned)
        # Anything else than a cut, such as a part for this use alone, is not fitted.
        return weight if np.array_equal(array[np.ix_(*kept)].transpose(weight.turns), weight.array) else None

    def _may_change(self, name: str) -> bool:
        return name in self._initializers and (self._only is None or name in self._only)

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


def _saturation(node: ir.Node) -> Saturation:
    if node.op_type == "Relu" and not node.domain:
        return Saturation(low=0.0)
    if node.op_type != "Clip" or node.domain:
        return NONE
    given = [node.attributes.get_float(name, None) for name in ("min", "max")]  # before opset 11
    for place, value in enumerate(node.inputs[1:3]):
        tensor = None if value is None else constant(value)
        if value is not None and tensor is None:
            return NONE
        given[place] = given[place] if tensor is None else float(tensor.numpy().item())
    low, high = given
    return Saturation(-np.inf if low is None else low, np.inf if high is None else high)


def _before_turning(value: ir.Value | None) -> tuple[ir.Value | None, tuple[int, ...]]:
    """What a Transpose that nothing else reads has turned, and how; the value itself where it is none."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "Transpose" or node.domain or len(value.uses()) > 1:
        return value, ()
    source = node.inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else 0
    return source, tuple(node.attributes.get_ints("perm", list(range(rank))[::-1]))


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


def _latest(slim: ir.Model, found: Sequence[Site]) -> dict[ir.Value, int]:
    """For each value the number of the last layer that it is computed by; those without any are left out."""
    number = {site.node: k for k, site in enumerate(found)}
    latest: dict[ir.Value, int] = {}
    for node in slim.graph:
        known = max([number.get(node, -1), *(latest.get(value, -1) for value in read_by(node))])
        if known >= 0:
            latest.update(dict.fromkeys(node.outputs, known))
    return latest
