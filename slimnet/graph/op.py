"""What a rule sees of one node: the labels of its inputs, known constants and attributes, and the ways to declare.

A rule is a function `Op -> list of outputs`: each output is a list of labels (one array per axis), a `Traced`, or None
when its shape is unknown. Whatever input axis a rule does not ask for with `axis` or `axes` is pinned afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import FIXED, Bools, GridConstraint, Labels, fixed, is_live, not_zero, signed
from slimnet.graph.edits import Freeze, Inexact, Recount, Renumber, Restep, Widen
from slimnet.graph.evaluate import is_bounded, is_simple
from slimnet.graph.parameters import NO_USE, Role, Use
from slimnet.graph.registry import Trait, opset_of, traits_of

if TYPE_CHECKING:
    from slimnet.graph.trace import Tracer
    from slimnet.graph.walk import Walk

Axes: TypeAlias = list[Labels]

#: Why kernel axes are pinned: nobody expects otherwise, so reports leave it out.
KERNEL = "is the kernel of a convolution"


@dataclass(slots=True)
class Traced:
    """What is known of one value while tracing.

    `axes` is None when the shape is unknown. `data` is the value itself where it is a small known constant and
    `dynamic` marks its elements that depend on a dynamic input size. `parameter` says that nothing but constants of
    the graph went into it, `computable` also that `computed` knows how. `items` holds the elements of a sequence.
    `zero` is what stands for zero in it where that is another number: the zero point with which it was quantised.
    `source` is the name of the network's input whose elements it holds, moved or scaled. `positions` is the shape of
    the tensor in which its elements are flat positions, if they are: they are others where channels are gone.
    """

    axes: Axes | None = None
    data: npt.NDArray[Any] | None = None
    dynamic: Bools | None = None
    parameter: bool = False
    computable: bool = False
    items: list[Traced] | None = None
    zero: npt.NDArray[Any] | None = None
    source: str | None = None
    positions: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        if self.data is not None:
            return self.data.shape
        return None if self.axes is None else tuple(len(labels) for labels in self.axes)


Result: TypeAlias = Sequence["Axes | Traced | None"]
Rule: TypeAlias = Callable[["Op"], Result]


@dataclass
class Op:
    """One node, as its rule sees it."""

    _tracer: Tracer
    node: ir.Node
    values: list[Traced | None]
    #: Concrete output shapes as the ONNX standard infers them, None where unknown.
    out_shapes: list[tuple[int, ...] | None]
    taken: list[set[int]] = field(init=False)
    used: dict[int, Axes] = field(default_factory=dict)
    #: Whether the output stays what the dense weights make it.
    settled: bool = False

    def __post_init__(self) -> None:
        self.taken = [set() for _ in self.values]

    # -- looking -----------------------------------------------------------------------------------------------

    @property
    def _walk(self) -> Walk:
        return self._tracer.walk

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.node.op_type

    @property
    def name(self) -> str:
        """What messages call the node."""
        return self._tracer.node_name(self.node)

    @property
    def opset(self) -> int:
        """Version in which the graph imports the node's domain."""
        return opset_of(self.node) or 1

    def has(self, i: int) -> bool:
        """Whether optional input i is given."""
        return i < len(self.values) and self.values[i] is not None

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, or the default where it is not given."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def text(self, name: str, default: str) -> str:
        """A text attribute; older files hold it as bytes."""
        value = self.attr(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def data(self, i: int) -> npt.NDArray[Any] | None:
        """Value of input i if it is a known small constant, whatever the input sizes."""
        value = self.values[i] if self.has(i) else None
        return None if value is None or value.dynamic is not None else value.data

    def ints(self, i: int, name: str | None = None, default: Any = None) -> list[int] | None:
        """Integers given as input i or, in older opsets, as an attribute; the default if neither, None if unknown.

        They may depend on a dynamic input size, where they count what cannot be removed: `lengths` sees to that.
        """
        if self.has(i):
            data = self.values[i].data  # type: ignore[union-attr]
            return None if data is None else [int(v) for v in np.atleast_1d(data)]
        return default if name is None else self.attr(name, default)

    def parameter(self, i: int) -> bool:
        """Whether only constants of the graph went into input i."""
        return self.has(i) and self.values[i].parameter  # type: ignore[union-attr]

    def shape(self, i: int) -> tuple[int, ...]:
        """Shape of input i at the input sizes of the trace."""
        return tuple(len(labels) for labels in self.peek(i))

    def rank(self, i: int) -> int:
        """Number of axes of input i."""
        return len(self.peek(i))

    def known(self, *inputs: int) -> bool:
        """Whether the shapes of these inputs are known (those left out count as known)."""
        return all(not self.has(i) or self.values[i].shape is not None for i in inputs)  # type: ignore[union-attr]

    def peek(self, i: int) -> Axes:
        """Labels of input i, without vouching for them: what a rule only peeks at is pinned."""
        if i not in self.used:
            value = self.values[i]
            assert value is not None, f"{self.kind} has no input {i}"
            axes = self._tracer.use(self.node, i, value)
            # Whoever takes a zero point for a number does not see a zero.
            self.used[i] = axes if value.zero is None or self.carries else [not_zero(labels) for labels in axes]
        return self.used[i]

    def positions_in(self, i: int) -> tuple[int, ...] | None:
        """The shape of the tensor in which input i holds flat positions, if it does."""
        return self.values[i].positions if self.has(i) else None  # type: ignore[union-attr]

    @property
    def carries(self) -> bool:
        """Whether the node puts out elements of its inputs as they are, and in all of them the same stands for zero."""
        picks = bool(traits_of(self.node) & (Trait.MOVES | Trait.PICKS))
        return picks and len({tuple(_codes(v.zero)) for v in self._data}) == 1

    @property
    def carried_zero(self) -> npt.NDArray[Any] | None:
        """What stands for zero in the outputs of a node that carries its inputs' elements."""
        return self._data[0].zero if self.carries else None

    @property
    def _data(self) -> list[Traced]:
        """The inputs that are no known constants."""
        return [value for value in self.values if value is not None and value.data is None]

    def given_zero(self, place: int) -> npt.NDArray[Any] | None:
        """The zero point that input `place` gives: 0 where it is left out, None where it is not constant."""
        return self.data(place) if self.has(place) else np.zeros((), np.int8)

    def decoded(self, i: int, place: int) -> Axes:
        """Labels of all axes of input i, quantised numbers whose zero point is input `place`; every one answered for.

        They are zero where what was written there stands for zero as this node reads it.
        """
        value, zero_point = self.values[i], self.given_zero(place)
        assert value is not None
        if self.parameter(i) and zero_point is None:
            raise Unsupported("its zero point is not constant")
        axes = self._tracer.use(self.node, i, value)
        same = self.parameter(i) or _codes(value.zero) == _codes(zero_point)
        self.used[i] = axes if same else [not_zero(labels) for labels in axes]
        return self.axes(i)

    def encoded(self, axes: Axes, place: int) -> Traced:
        """An output of quantised numbers whose zero point is input `place`."""
        zero_point = self.given_zero(place)
        if zero_point is None:
            return Traced([not_zero(labels) for labels in axes])
        return Traced(axes, zero=zero_point if zero_point.any() else None)

    # -- taking ------------------------------------------------------------------------------------------------

    def axis(self, i: int, k: int) -> Labels:
        """Labels of axis k of input i; the rule now answers for what becomes of it."""
        axes = self.peek(i)
        self.taken[i].add(k % len(axes))
        return axes[k]

    def axes(self, i: int) -> Axes:
        """Labels of all axes of input i, every one answered for."""
        axes = self.peek(i)
        self.taken[i].update(range(len(axes)))
        return list(axes)

    def items(self, i: int) -> list[Traced] | None:
        """Elements of input i, every one answered for; None if it is no known sequence."""
        value = self.values[i]
        if value is not None and value.items is not None:
            self.taken[i].add(0)
            return value.items
        return None

    # -- declaring ---------------------------------------------------------------------------------------------

    def same(self, a: Labels, b: Labels) -> None:
        """Index i of a and index i of b are removed together."""
        if len(a) != len(b):
            raise Unsupported(f"axes of lengths {len(a)} and {len(b)} do not fit together")
        self._walk.constraints.same(a, b, self.kind, self.name, self._meets)

    @property
    def _meets(self) -> str:
        """Why an axis of this node is pinned that meets a fixed one."""
        sources = {value.source for value in self.values if value is not None} - {None}
        return f"joins an axis of input {sources.pop()}, which keeps its size" if len(sources) == 1 else FIXED

    @property
    def source(self) -> str | None:
        """The network's input whose elements the node moves or scales, if they are those of one."""
        traits = traits_of(self.node)
        if not traits & (Trait.MOVES | Trait.POINTWISE | Trait.SCALES):
            return None
        sources = {value.source for value in self.values if value is not None and not value.parameter}
        # What is laid beside an input is told apart by its labels, which are not fixed.
        sources -= {None} if self.kind == "Concat" else set()
        return sources.pop() if len(sources) == 1 else None

    def pin(self, labels: Labels, why: str) -> None:
        """What these labels belong to may not be removed, for a reason that completes "this axis ..."."""
        self._walk.constraints.pin(labels, self.kind, self.name, why)

    def fresh(self, length: int) -> Labels:
        """Labels of a new axis, whose indices have nothing to do with any other."""
        return self._walk.constraints.fresh(length)

    def contract(self, a: Labels, b: Labels) -> None:
        """A sum over the product of two axes: both are cut alike, and one side must be zero where they are."""
        self.same(a, b)
        left = (a < 0) & (b <= 0)
        if left.any() and not self.settle():
            self.pin(a[left], "is summed over although neither side becomes zero")

    def vanish(self, labels: Labels, why: str) -> None:
        """A sum over an axis: exact only where removed entries are zero."""
        if (labels < 0).any() and not self.settle():
            self.pin(labels[labels < 0], why)

    def settle(self) -> bool:
        """Let the output stay what the dense weights make it, if nothing but constants goes in; whether that is so.

        What is removed is then cut from it as from a weight, and zero in it when masked.
        """
        self.settled = self.settled or self.computable
        return self.settled

    @property
    def computable(self) -> bool:
        """Whether the output can be computed from constants of the graph alone."""
        shape, given = self.out_shapes[0], [value for value in self.values if value is not None]
        known = all(v.computable or (v.data is not None and v.dynamic is None) for v in given)
        if shape is None or not known or not is_simple(self.node):
            return False
        return is_bounded(shape, *(math.prod(v.shape or ()) for v in given))

    def role(self, i: int, k: int, role: Role, use: str = "", groups: int = 1, made: bool = False) -> None:
        """What axis k of input i, if it is a parameter, does here; `use` names the input of a layer of `groups`.

        With `made`, also where the input is made while the network runs, of parameters that are weights all the same.
        """
        if self.parameter(i) or made:
            named = Use(self.kind, use, groups, self.node.domain) if use else NO_USE
            self._tracer.add_role(self.peek(i)[k], role, named)

    def untouched(self, i: int) -> None:
        """A mask must not set this input to zero: a scale, a variance, a divisor."""
        for k in range(self.rank(i)):
            self._tracer.add_role(self.peek(i)[k], Role.UNTOUCHED, NO_USE)

    def statistics(self, *inputs: int) -> None:
        """These inputs are running statistics, which do not count as parameters."""
        self._walk.statistics |= {v.name or "" for v in (self.node.inputs[i] for i in inputs) if v is not None}

    def zero_point(self, i: int, value: npt.NDArray[Any], along: int | None = None) -> None:
        """What represents zero in input i, a quantised weight: one number, or one per index of an axis."""
        weight = self.node.inputs[i]
        assert weight is not None
        known, axis = self._walk.zero_points.setdefault(weight.name or "", (value, along))
        if _codes(known) != _codes(value) or (axis != along and len(_codes(value)) > 1):
            raise Unsupported("another node reads this weight with another zero point")

    def multiply_adds(self, *axes: Labels, factor: float = 1.0) -> None:
        """The node takes as many multiply-adds as the product of the lengths of these axes, times a factor."""
        self._walk.multiply_adds.append((self.node, axes, factor))

    def non_empty(self, *parts: Labels) -> None:
        """Parts of an axis that must not become empty: the runtime refuses an output of length zero."""
        self._walk.non_empty += [(self.name, labels) for labels in parts if is_live(labels)]

    def filled(self, shape: Sequence[int]) -> Axes:
        """Labels of the output, where every element of it is the same constant: a weight like any other."""
        return self._tracer.filled(self.node, tuple(shape))

    def lengths(self, place: int | str, elements: Mapping[int, Labels]) -> None:
        """Integers in an input (by number) or attribute (by name) that are lengths of axes with these labels."""
        live = {e: labels for e, labels in elements.items() if is_live(labels)}
        if not live:
            return
        scalar = False
        if isinstance(place, int):
            old = self.values[place].data if self.has(place) else None  # type: ignore[union-attr]
            dynamic = self.values[place].dynamic if self.has(place) else None  # type: ignore[union-attr]
            if old is None and self.has(place):
                raise Unsupported(f"the integers in input {place} are computed while the network runs")
            if dynamic is not None:
                flags = dynamic.ravel()
                for e, labels in live.items():
                    if flags[e]:
                        self.pin(labels, "its length is computed from a dynamic input size")
                live = {e: labels for e, labels in live.items() if not flags[e]}
        else:
            value = self.attr(place)
            scalar = isinstance(value, int)
            old = None if value is None else np.atleast_1d(np.asarray(value, np.int64))
        if old is None or (old.size == 1 and len(elements) > 1):
            live = dict(elements)
        self._walk.edits.append(Recount(self.node, place, old, live, scalar))

    def grid(self, flat: Labels, shape: Sequence[int], axes: Sequence[Labels] | None = None) -> Axes:
        """See a flat axis as a grid of this shape, one of whose axes may be cut (decided after the walk).

        Args:
            flat: The labels of the grid's elements, row-major, of length prod(shape).
            shape: The lengths of the grid's axes.
            axes: The labels of the grid's axes where they exist already; otherwise they are fresh.
        """
        cells = flat.reshape(tuple(shape))
        if axes is None:
            axes = [self._split_axis(cells, k) for k in range(cells.ndim)]
        if is_live(flat) or any(is_live(a) for a in axes):
            self._walk.constraints.grids.append(GridConstraint(cells, tuple(axes), self.name))
        return list(axes)

    def _split_axis(self, grid: Labels, k: int) -> Labels:
        labels = self.fresh(grid.shape[k])
        zero = np.all(np.moveaxis(grid, k, 0).reshape(grid.shape[k], -1) > 0, axis=1)
        return signed(labels, zero) if is_live(labels) else labels

    def inexact(
        self, why: str, labels: Labels, gather: Sequence[tuple[int, int]], fill: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Removing zeros from this axis changes the result: pin it, unless the user allowed inexact removal."""
        if not is_live(labels) or self.settled:
            return
        if self._tracer.allow_inexact:
            self._walk.edits.append(Inexact(self.node, labels, labels, tuple(gather), tuple(fill)))
        elif not self.settle():
            self.pin(labels, f"{why}; --allow-inexact would remove it")

    def slide(self, i: int, k: int, centres: npt.NDArray[np.int64]) -> tuple[Labels, Labels]:
        """A window slides over axis k of input i, and what comes out at its `centres` goes with what lies there.

        The neighbours of what is removed are further apart than they would seem to be, so the node still sees zeros in
        between; with inexact removal it sees those that are kept side by side.

        Returns:
            The labels of axis k of the output, and those of the windows that are computed.
        """
        labels = self.axis(i, k)
        out = labels[centres]
        if not is_live(labels):
            return out, out
        if not self._tracer.allow_inexact:
            self.pin(labels[labels < 0], "is seen by its neighbours and does not become zero")
            self._walk.edits.append(Widen(self.node, i, k, labels, out))
            return not_zero(out), fixed(len(out))
        self.pin(np.delete(labels, centres), "is the edge of what a window slides over")
        self._walk.edits.append(Inexact(self.node, labels, out, ((i, k),), ((0, k),)))
        return signed(out, True), out

    def restep(self, axis: int, positions: npt.NDArray[np.int64], labels: Labels) -> None:
        """The node, a strided Slice, takes these positions of an axis, and becomes a Gather when some are removed."""
        self._walk.edits.append(Restep(self.node, axis, positions, labels))

    def renumber(self, place: int, labels: Labels) -> None:
        """The constant indices in this input are positions on an axis; their own axes must have been taken."""
        old = self.data(place)
        assert old is not None
        self._walk.edits.append(Renumber(self.node, place, old, labels, tuple(self.axes(place))))

    def freeze(self, place: int | str, value: float | list[int]) -> None:
        """This attribute (by name) or input (by number) keeps the value that the dense widths imply."""
        self._walk.edits.append(Freeze(self.node, place, value))


def _codes(zero: npt.NDArray[Any] | None) -> list[int]:
    """A zero point in comparable form: one for the whole tensor as a single number, none and 0 alike."""
    numbers = [0] if zero is None else zero.ravel().tolist()
    return numbers if len(set(numbers)) > 1 else numbers[:1]


class Unsupported(Exception):
    """A rule cannot follow this node; its inputs are pinned with this reason."""


class Malformed(Exception):
    """A node is not what the standard allows, so that no runtime could run it; the trace ends with this reason."""


def broadcast(op: Op, operands: Sequence[Axes], zero: str = "all") -> Axes:
    """Labels of operands combined elementwise with ONNX (numpy) broadcasting.

    Args:
        zero: "all" if the result is zero only where every operand is (Add), "any" if one is enough (Mul),
            "first" if the first decides (Div), "none" if zeros are not kept.
    """
    rank = max(len(axes) for axes in operands)
    columns = ([axes[k] if -k <= len(axes) else None for axes in operands] for k in range(-rank, 0))
    return [_broadcast_axis(op, column, zero) for column in columns]


def _broadcast_axis(op: Op, column: list[Labels | None], zero: str) -> Labels:
    length = max(len(labels) for labels in column if labels is not None)
    full = [labels for labels in column if labels is not None and len(labels) == length]
    for labels in column:
        if labels is not None and len(labels) != length:
            op.pin(labels, "is repeated by broadcasting")
    for labels in full[1:]:
        op.same(full[0], labels)
    if not all(is_live(labels) for labels in full):
        return fixed(length)
    live = full[0]
    if zero == "none":
        return not_zero(live)
    if zero == "first":
        head = column[0]
        return signed(live, head > 0 if head is not None and len(head) == length else False)
    if zero == "all":
        return (
            signed(live, np.logical_and.reduce([labels > 0 for labels in full]))
            if len(full) == len(column)
            else not_zero(live)
        )
    return signed(live, np.logical_or.reduce([labels > 0 for labels in full]))
