"""Sizes that a file leaves open and nobody gives: those that the graph implies or usual ones, tried until one runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import TypeAlias

import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.common.inputs import sizes
from slimnet.graph.fits import Fitting, Misfit, Sizes, fitted

#: A size that is open: by its symbol, or the input and the number of the axis where it has none.
Symbol: TypeAlias = str | tuple[str, int]
Dim: TypeAlias = int | Symbol
Shapes: TypeAlias = dict[str, tuple[int, ...]]

#: So many sizes are tried in the runtime before the file is refused.
TRIES = 8
#: Usual sizes of an axis, the likeliest first, by what the axis probably is.
USUAL = {
    "channels": (3, 1, 4, 2),
    "picture": (224, 256, 320, 512, 640, 128, 64, 32),
    "clip": (112, 224, 64, 128, 32),
    "frames": (16, 32, 8, 64),
    "tokens": (16, 128, 77, 512, 8, 1),
    "steps": (128, 256, 64, 1000, 3000, 16, 1),
    "features": (128, 80, 64, 40, 256, 512, 16, 1),
    "sound": (16000, 512, 8000, 48000, 160000),
    "batch": (1,),
}
#: What a symbol is called says what it probably is.
_CALLED = {
    "batch": r"batch|beam|^bs$",
    "channels": r"channel|^c$",
    "picture": r"height|width|^[hw]$",
    "sound": r"samples|audio|wave",
    "tokens": r"seq|len|tok|past|time|frame|step|points|^[tls]$",
}
#: A size that is computed from others, as exporters write it: "past_sequence_length + 1", "2*s0 + s1".
_SUM = re.compile(r"\w+(\s*[+*]\s*\w+)+")

#: What pictures, sounds and features are stored as; other numbers are counts and indices.
_FLOATS = {d for d in ir.DataType if d.is_floating_point()} | {ir.DataType.UINT8}


class OpenSizes:
    """The inputs of a network, some of whose sizes are open.

    Args:
        model: The graph.
        stated: The shape of every input, with symbols for what is open.
        symbols: The sizes of the symbols that are known.
    """

    def __init__(self, model: ir.Model, stated: Mapping[str, Sequence[Dim]], symbols: Sizes) -> None:
        self._model, self._symbols = model, symbols
        self._stated = {name: [symbols.get(dim, dim) for dim in dims] for name, dims in stated.items()}
        self._kinds = self._guessed()
        #: The usual sizes of everything that is open, the likeliest first.
        self._usual = [
            {symbol: USUAL[kind][min(k, len(USUAL[kind]) - 1)] for symbol, kind in self._kinds.items()}
            for k in range(max((len(USUAL[kind]) for kind in self._kinds.values()), default=1))
        ]

    def found(self, where: str) -> tuple[Shapes, str | None]:
        """Shapes at which the network runs, and what to say of them if more than a batch of 1 was chosen.

        Raises:
            BadInput: It runs at none of those that were tried; the message begins with `where`.
        """
        likeliest, only_batch = self._shapes(self._usual[0]), set(self._kinds.values()) <= {"batch"}
        if not self._kinds or (only_batch and self._misfit(self._usual[0]) is None):
            return likeliest, None
        shapes, remark = self._tried(where)
        if only_batch and shapes == likeliest:
            return shapes, None
        return shapes, f"the file leaves sizes of its inputs open; chosen were {self._said(shapes)}{remark}"

    def _tried(self, where: str) -> tuple[Shapes, str]:
        """The first likely shapes at which the network runs, and a remark."""
        from slimnet.runtime.backend import RunFailed
        from slimnet.runtime.feeds import random_inputs
        from slimnet.runtime.onnxruntime import DEFAULT, NAME

        try:
            session = DEFAULT.session(self._model, optimise=False)
        except BadInput:
            return next(self._likely()), f" (not tried: {NAME} cannot load the network)"
        tried, reason = [], ""
        for shapes in islice(self._likely(), TRIES):
            try:
                session.run(random_inputs(self._model, shapes))
            except RunFailed as failure:
                tried.append(self._said(shapes))
                reason = failure.reason
            else:
                return shapes, ""
        raise BadInput(
            f"{where}: leaves sizes of its inputs open, and {NAME} runs it at none of those that were tried, "
            f"{'; '.join(tried)} ({reason}); give `inputs` {self._said(self._stated)} with a number for each"
        )

    def _guessed(self) -> dict[Symbol, str]:
        """What each symbol that is open probably is: its first axes tell most, then integers."""
        places = [
            (axis > 0, value.dtype in _FLOATS, value, axis, dims)
            for value in self._model.graph.inputs
            if (dims := self._stated.get(value.name or "")) is not None
            for axis in range(len(dims))
        ]
        kinds: dict[Symbol, str] = {}
        for *_, value, axis, dims in sorted(places, key=lambda place: place[:2]):
            for symbol in _symbols(dims[axis]):
                if symbol not in self._symbols:
                    kinds.setdefault(symbol, kind_of(value.dtype, axis, dims))
        return kinds

    def _likely(self) -> Iterator[Shapes]:
        """Shapes that the network may be made for, each once: those that fit first, and of those the likeliest."""
        kinds = sorted(set(self._kinds.values()), key=list(USUAL).index)
        alike = [[symbol for symbol, k in self._kinds.items() if k == kind] for kind in kinds]
        samples = [symbol for symbol, kind in self._kinds.items() if kind != "batch"]
        ways = dict.fromkeys(map(tuple, [*alike, samples, *([symbol] for symbol in self._kinds)]))
        repaired = fitted(self._misfit, self._usual[0], [way for way in ways if way])
        fitting = (found for found in self._usual if self._misfit(found) is None)
        seen: list[Shapes] = []
        for found in chain([repaired] if repaired else [], fitting, self._usual):
            shapes = self._shapes(found)
            if shapes not in seen:
                seen.append(shapes)
                yield shapes

    def _misfit(self, found: Sizes) -> Misfit | None:
        return self._fitting.misfit(self._shapes(found))

    @cached_property
    def _fitting(self) -> Fitting:
        return Fitting(self._model)

    def _shapes(self, found: Sizes) -> Shapes:
        every = {**self._symbols, **found}
        return {name: tuple(_size(dim, every) for dim in dims) for name, dims in self._stated.items()}

    def _said(self, shapes: Mapping[str, Sequence[Dim]]) -> str:
        """The shapes of the inputs that are open, as users write them."""
        return " and ".join(
            f"{name}={sizes(dim if isinstance(dim, int | str) else '?' for dim in shape)}"
            for name, shape in shapes.items()
            if any(not isinstance(dim, int) for dim in self._stated[name])
        )


def kind_of(dtype: ir.DataType | None, axis: int, dims: Sequence[Dim]) -> str:
    """What an axis of an input probably is: a key of `USUAL`."""
    symbol, floats = dims[axis], dtype is None or dtype in _FLOATS
    called = (kind for kind, pattern in _CALLED.items() if isinstance(symbol, str) and re.search(pattern, symbol, re.I))
    kind = next(called, None)
    if kind is not None and not (kind == "tokens" and floats and len(dims) < 4):
        return "clip" if kind == "picture" and len(dims) > 4 else kind
    if kind is None and (axis == 0 or (axis == 1 and symbol in ("N", "B"))):
        return "batch"
    if not floats:
        return "tokens"
    if len(dims) > 3:
        last = dims[-1] in USUAL["channels"] and not isinstance(dims[1], int)
        space = [k for k in range(1, len(dims)) if k != (len(dims) - 1 if last else 1)]
        if axis not in space:
            return "channels"
        return "picture" if len(space) == 2 else "frames" if axis == space[0] else "clip"
    if len(dims) == 3 and dims[0] == 3:
        return "picture"
    if len(dims) == 3 and not (axis == 2 and dims[1] == 1):
        return "features" if axis == 2 and not isinstance(dims[1], int) else "steps"
    return "sound"


def _symbols(dim: Dim) -> Sequence[Symbol]:
    """The symbols that a size is made of."""
    if isinstance(dim, int):
        return ()
    if isinstance(dim, str) and _SUM.fullmatch(dim):
        return [word for word in re.findall(r"\w+", dim) if not word.isdigit()]
    return (dim,)


def _size(dim: Dim, sizes: Sizes) -> int:
    if isinstance(dim, int):
        return dim
    if dim in sizes or not isinstance(dim, str):
        return sizes[dim]
    products = (re.findall(r"\w+", term) for term in dim.split("+"))
    return sum(math.prod(int(word) if word.isdigit() else sizes[word] for word in product) for product in products)
