"""What a rule sees of one node: its inputs' id vectors, known constants and attributes, and the ways to declare.

A rule is a function `Op -> list of outputs`, each output a list of id vectors (one per axis), a `Traced`, or None when
its shape is unknown. Whatever input axis a rule does not ask for with `axis` or `axes` is pinned afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools, Ids, Relation, fixed, is_live, not_zero, signed
from slimnet.graph.registry import STANDARD, Trait, opset_of, traits_of, traits_of_operator

if TYPE_CHECKING:
    from slimnet.graph.trace import Tracer

Axes: TypeAlias = list[Ids]

#: Why kernel axes are pinned: nobody expects otherwise, so reports leave it out.
KERNEL = "is the kernel of a convolution"


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
        op: name of the operator, such as "Conv".
        input: what its rule calls the input, such as "W".
        groups: number of groups that the layer falls into.
        domain: of the operator.
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
        """The form of it in JSON: "Conv.W", or "Conv.W[4]" with groups; empty for `NO_USE`."""
        return f"{self.op}.{self.input}" + (f"[{self.groups}]" if self.groups > 1 else "") if self.op else ""


#: A parameter that no rule has named.
NO_USE = Use("", "")


@dataclass(slots=True)
class Traced:
    """What is known of one value while tracing.

    `axes` is None when the shape is unknown. `data` is the value itself where it is a small known constant and
    `dynamic` marks its elements that depend on a dynamic input size. `parameter` says that nothing but constants of
    the graph went into it. `items` holds the elements of a sequence. `zero` is what stands for zero in it where that
    is another number: the zero point with which it was quantised.
    """

    axes: Axes | None = None
    data: npt.NDArray[Any] | None = None
    dynamic: Bools | None = None
    parameter: bool = False
    items: list[Traced] | None = None
    zero: npt.NDArray[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        if self.data is not None:
            return self.data.shape
        return None if self.axes is None else tuple(len(ids) for ids in self.axes)


Result: TypeAlias = Sequence["Axes | Traced | None"]
Rule: TypeAlias = Callable[["Op"], Result]


@dataclass(frozen=True)
class Recount:
    """Integers of one node that are lengths of what is left of id vectors: elements of an input or an attribute."""

    node: ir.Node
    place: int | str
    old: npt.NDArray[np.int64] | None
    elements: Mapping[int, Ids]
    scalar: bool = False

    def new(self, keep: Bools) -> npt.NDArray[np.int64]:
        """The integers after removal; what is not declared keeps its value."""
        if self.old is None or (self.old.size == 1 and len(self.elements) > 1):
            return np.array([keep[np.abs(self.elements[i])].sum() for i in range(len(self.elements))], np.int64)
        out = self.old.astype(np.int64).ravel()
        for element, ids in self.elements.items():
            out[element] = keep[np.abs(ids)].sum()
        return out.reshape(self.old.shape)


@dataclass(frozen=True)
class Renumber:
    """Constant indices, which are positions on an axis (`ids`).

    `index_axes` describes the axes of the index tensor itself.
    """

    node: ir.Node
    place: int
    old: npt.NDArray[np.int64]
    ids: Ids
    index_axes: tuple[Ids, ...]

    def new(self, keep: Bools) -> npt.NDArray[np.int64]:
        """The kept indices, counted on the shrunken axis."""
        position = np.cumsum(keep[np.abs(self.ids)]) - 1
        index = self.old
        for k, ids in enumerate(self.index_axes):
            index = index.compress(keep[np.abs(ids)], k)
        return position[index]


@dataclass(frozen=True)
class Freeze:
    """An attribute (by name) or input (by number) that a live width implied; its dense value is written down."""

    node: ir.Node
    place: int | str
    value: float | list[int]


@dataclass(frozen=True)
class Restep:
    """A strided Slice of a live axis: becomes a Gather, since what is left of it has no stride."""

    node: ir.Node
    axis: int
    positions: npt.NDArray[np.int64]
    ids: Ids

    def indices(self, keep: Bools) -> npt.NDArray[np.int64]:
        kept = keep[np.abs(self.ids)]
        position = np.cumsum(kept) - 1
        return position[self.positions[kept[self.positions]]]


@dataclass(frozen=True)
class Inexact:
    """A node whose result changes when zeros are removed: LayerNorm, Softmax or a mean over a live axis.

    `gather` and `fill` list (input or output, axis) pairs; on all of them the axis is described by `ids`.
    """

    node: ir.Node
    ids: Ids
    gather: tuple[tuple[int, int], ...]
    fill: tuple[tuple[int, int], ...]


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

    def __post_init__(self) -> None:
        self.taken = [set() for _ in self.values]

    # -- looking -----------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        return self.node.op_type

    @property
    def name(self) -> str:
        return self._tracer.node_name(self.node)

    @property
    def opset(self) -> int:
        """Version in which the graph imports the node's domain."""
        return opset_of(self.node) or 1

    def has(self, i: int) -> bool:
        """Whether optional input i is given."""
        return i < len(self.values) and self.values[i] is not None

    def attr(self, name: str, default: Any = None) -> Any:
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
        return tuple(len(ids) for ids in self.peek(i))

    def rank(self, i: int) -> int:
        return len(self.peek(i))

    def known(self, *inputs: int) -> bool:
        """Whether the shapes of these inputs are known (those left out count as known)."""
        return all(not self.has(i) or self.values[i].shape is not None for i in inputs)  # type: ignore[union-attr]

    def peek(self, i: int) -> Axes:
        """Id vectors of input i, without vouching for them: what a rule only peeks at is pinned."""
        if i not in self.used:
            value = self.values[i]
            assert value is not None, f"{self.kind} has no input {i}"
            axes = self._tracer.use(self.node, i, value)
            # Whoever takes a zero point for a number does not see a zero.
            self.used[i] = axes if value.zero is None or self.carries else [not_zero(ids) for ids in axes]
        return self.used[i]

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

    def decoded(self, i: int, place: int) -> Axes:
        """All id vectors of input i, quantised numbers whose zero point is input `place`; every one answered for.

        They are zero where what was written there stands for zero as this node reads it.
        """
        value, zero_point = self.values[i], self.data(place) if self.has(place) else np.zeros((), np.int8)
        assert value is not None
        if self.parameter(i) and zero_point is None:
            raise Unsupported("its zero point is not constant")
        axes = self._tracer.use(self.node, i, value)
        same = self.parameter(i) or _codes(value.zero) == _codes(zero_point)
        self.used[i] = axes if same else [not_zero(ids) for ids in axes]
        return self.axes(i)

    def encoded(self, axes: Axes, place: int) -> Traced:
        """An output of quantised numbers whose zero point is input `place`."""
        zero_point = self.data(place) if self.has(place) else np.zeros((), np.int8)
        if zero_point is None:
            return Traced([not_zero(ids) for ids in axes])
        return Traced(axes, zero=zero_point if zero_point.any() else None)

    # -- taking ------------------------------------------------------------------------------------------------

    def axis(self, i: int, k: int) -> Ids:
        """Id vector of axis k of input i; the rule now answers for what becomes of it."""
        axes = self.peek(i)
        self.taken[i].add(k % len(axes))
        return axes[k]

    def axes(self, i: int) -> Axes:
        """All id vectors of input i, every one answered for."""
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

    def same(self, a: Ids, b: Ids) -> None:
        """Index i of a and index i of b go together."""
        if len(a) != len(b):
            raise Unsupported(f"axes of lengths {len(a)} and {len(b)} do not fit together")
        self._tracer.ledger.same(a, b, self.kind, self.name)

    def pin(self, ids: Ids, why: str) -> None:
        self._tracer.ledger.pin(ids, self.kind, self.name, why)

    def fresh(self, length: int) -> Ids:
        return self._tracer.ledger.fresh(length)

    def contract(self, a: Ids, b: Ids) -> None:
        """A sum over the product of two axes: they go together, and one side must be zero where they are removed."""
        self.same(a, b)
        left = (a < 0) & (b <= 0)
        if left.any():
            self.pin(a[left], "is summed over although neither side becomes zero")

    def vanish(self, ids: Ids, why: str) -> None:
        """A sum over an axis: exact only where removed entries are zero."""
        self.pin(ids[ids < 0], why)

    def role(self, i: int, k: int, role: Role, use: str = "", groups: int = 1) -> None:
        """What axis k of input i, if it is a parameter, does here; `use` names the input of a layer of `groups`."""
        if self.parameter(i):
            named = Use(self.kind, use, groups, self.node.domain) if use else NO_USE
            self._tracer.mark(self.peek(i)[k], role, named)

    def untouched(self, i: int) -> None:
        """A mask must not set this input to zero: a scale, a variance, a divisor."""
        for k in range(self.rank(i)):
            self._tracer.mark(self.peek(i)[k], Role.UNTOUCHED, NO_USE)

    def statistics(self, *inputs: int) -> None:
        """These inputs are running statistics, which do not count as parameters."""
        self._tracer.statistics |= {v.name or "" for v in (self.node.inputs[i] for i in inputs) if v is not None}

    def zero_point(self, i: int, value: npt.NDArray[Any], along: int | None = None) -> None:
        """What represents zero in input i, a quantised weight: one number, or one per index of an axis."""
        weight = self.node.inputs[i]
        if weight is not None:
            self._tracer.zero_points[weight.name or ""] = (value, along)

    def multiply_adds(self, *axes: Ids, factor: float = 1.0) -> None:
        """The node takes as many multiply-adds as the product of the lengths of these axes, times a factor."""
        self._tracer.macs.append((self.node, axes, factor))

    def non_empty(self, *parts: Ids) -> None:
        """Parts of an axis that must not become empty: the runtime refuses an output of length zero."""
        for ids in parts:
            self._tracer.piece(self.name, ids)

    def filled(self, shape: Sequence[int]) -> Axes:
        """Id vectors of the output, where every element of it is the same constant: a weight like any other."""
        return self._tracer.filled(self.node, tuple(shape))

    def lengths(self, place: int | str, elements: Mapping[int, Ids]) -> None:
        """Integers in an input (by number) or attribute (by name) that are lengths of id vectors."""
        live = {e: ids for e, ids in elements.items() if is_live(ids)}
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
                for e, ids in live.items():
                    if flags[e]:
                        self.pin(ids, "its length is computed from a dynamic input size")
                live = {e: ids for e, ids in live.items() if not flags[e]}
        else:
            value = self.attr(place)
            scalar = isinstance(value, int)
            old = None if value is None else np.atleast_1d(np.asarray(value, np.int64))
        if old is None or (old.size == 1 and len(elements) > 1):
            live = dict(elements)
        self._tracer.edits.append(Recount(self.node, place, old, live, scalar))

    def relate(self, flat: Ids, shape: Sequence[int], axes: Sequence[Ids] | None = None) -> Axes:
        """See a flat axis as a grid of this shape, of whose axes one may stay live (decided after the trace).

        Args:
            flat: ids of the cells, row-major; or ids of length prod(shape).
            shape: lengths of the grid's axes.
            axes: the axes' ids where they exist already, else fresh ones.
        """
        grid = flat.reshape(tuple(shape))
        if axes is None:
            axes = [self._split_axis(grid, k) for k in range(grid.ndim)]
        if is_live(flat) or any(is_live(a) for a in axes):
            self._tracer.ledger.relations.append(Relation(grid, tuple(axes), self.name))
        return list(axes)

    def _split_axis(self, grid: Ids, k: int) -> Ids:
        ids = self.fresh(grid.shape[k])
        zero = np.all(np.moveaxis(grid, k, 0).reshape(grid.shape[k], -1) > 0, axis=1)
        return signed(ids, zero) if is_live(ids) else ids

    def inexact(
        self, why: str, ids: Ids, gather: Sequence[tuple[int, int]], fill: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Removing zeros from this axis changes the result: pin it, unless the user allowed inexact removal."""
        if not is_live(ids):
            return
        if self._tracer.allow_inexact:
            self._tracer.edits.append(Inexact(self.node, ids, tuple(gather), tuple(fill)))
        else:
            self.pin(ids, f"{why}; --allow-inexact would remove it")

    def restep(self, axis: int, positions: npt.NDArray[np.int64], ids: Ids) -> None:
        self._tracer.edits.append(Restep(self.node, axis, positions, ids))

    def renumber(self, place: int, ids: Ids) -> None:
        """The constant indices in this input are positions on an axis; their own axes must have been taken."""
        old = self.data(place)
        assert old is not None
        self._tracer.edits.append(Renumber(self.node, place, old, ids, tuple(self.axes(place))))

    def freeze(self, place: int | str, value: float | list[int]) -> None:
        self._tracer.edits.append(Freeze(self.node, place, value))


def _codes(zero: npt.NDArray[Any] | None) -> list[int]:
    """A zero point in comparable form: one for the whole tensor as a single number, none and 0 alike."""
    numbers = [0] if zero is None else zero.ravel().tolist()
    return numbers if len(set(numbers)) > 1 else numbers[:1]


class Unsupported(Exception):
    """A rule cannot follow this node; its inputs are pinned with this reason."""


def broadcast(op: Op, operands: Sequence[Axes], zero: str = "all") -> Axes:
    """Id vectors of operands combined elementwise with ONNX (numpy) broadcasting.

    Args:
        zero: "all" if the result is zero only where every operand is (Add), "any" if one is enough (Mul),
            "first" if the first decides (Div), "none" if zeros are not kept.
    """
    rank = max(len(axes) for axes in operands)
    columns = ([axes[k] if -k <= len(axes) else None for axes in operands] for k in range(-rank, 0))
    return [_broadcast_axis(op, column, zero) for column in columns]


def _broadcast_axis(op: Op, column: list[Ids | None], zero: str) -> Ids:
    length = max(len(ids) for ids in column if ids is not None)
    full = [ids for ids in column if ids is not None and len(ids) == length]
    for ids in column:
        if ids is not None and len(ids) != length:
            op.pin(ids, "is repeated by broadcasting")
    for ids in full[1:]:
        op.same(full[0], ids)
    if not all(is_live(ids) for ids in full):
        return fixed(length)
    live = full[0]
    if zero == "none":
        return not_zero(live)
    if zero == "first":
        head = column[0]
        return signed(live, head > 0 if head is not None and len(head) == length else False)
    if zero == "all":
        return (
            signed(live, np.logical_and.reduce([ids > 0 for ids in full]))
            if len(full) == len(column)
            else not_zero(live)
        )
    return signed(live, np.logical_or.reduce([ids > 0 for ids in full]))
