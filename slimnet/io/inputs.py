"""The sizes of a network's inputs: what the file fixes, what the user gives, and what is chosen where nobody says."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Input, sizes
from slimnet.graph.net import Net
from slimnet.io.open_sizes import Dim, OpenSizes, Symbol

#: What exporters write for every size that they do not know: it is no symbol that stands for one size.
_PLACEHOLDER = re.compile(r"[\W_]*|-?\d+|unk(nown)?[\W_]*\d*|none|null|dynamic|\w*dynamic_?dim(ension)?[\W_]*\d*", re.I)


def net_of(
    model: ir.Model,
    name: str,
    given: Sequence[Input],
    where: str,
    source: str | None = None,
) -> Net:
    """A network with a concrete shape for every input.

    A size given for a symbolic dimension holds wherever the symbol occurs. What is left is chosen: a batch of 1, and
    other sizes as the graph needs them or as is usual (see `OpenSizes`), which a note of the network tells.

    Args:
        model: The graph.
        name: The name of the network.
        given: What the user says of the inputs.
        where: What messages begin with, such as the path of the file.
        source: The file that the network was read from.

    Raises:
        BadInput: A shape does not fit, nothing is known of an input, or the network runs at no size that was tried.
    """
    values = {v.name: v for v in model.graph.inputs if v.name}
    wanted = _matched(list(values), given, where)
    symbols: dict[Symbol, int] = {}
    for key, spec in wanted.items():
        _check_fits(values[key], spec, symbols, where)
    stated = {key: wanted[key].shape if key in wanted else _stated(value, where) for key, value in values.items()}
    shapes, note = OpenSizes(model, stated, symbols).found(where)
    return Net(model, name, shapes, source, notes=(note,) if note else ())


def _stated(value: ir.Value, where: str) -> list[Dim]:
    """The sizes and symbols of an input; a size without a symbol is named after its place."""
    dims = _dims(value, where)
    if dims is None:
        raise BadInput(
            f"{where}: nothing is known of the shape of input {value.name}; give `inputs` {value.name}=SHAPE"
        )
    return [(value.name or "", k) if dim is None else dim for k, dim in enumerate(dims)]


def _matched(names: list[str], given: Sequence[Input], where: str) -> dict[str, Input]:
    known = f"its inputs are {', '.join(names)}"
    if len(given) > len(names):
        raise BadInput(f"{where}: `inputs` is given {len(given)} times; {known}")
    if given and given[0].name is None:
        if len(given) < len(names):
            raise BadInput(f"{where}: `inputs` {given[0]} does not say for which input; {known}, so write NAME=SHAPE")
        return dict(zip(names, given, strict=True))
    for spec in given:
        if spec.name not in names:
            raise BadInput(f"{where}: `inputs` {spec} names no input; {known}")
    return {spec.name: spec for spec in given if spec.name}


def _check_fits(value: ir.Value, spec: Input, symbols: dict[Symbol, int], where: str) -> None:
    dims = _dims(value, where)
    if spec.dtype and value.dtype is not None and spec.dtype != _dtype_name(value.dtype):
        raise BadInput(
            f"{where}: `inputs` {spec} asks for {spec.dtype}, but {value.name} is {_dtype_name(value.dtype)}"
        )
    if dims is None:
        return
    misfit = f"{where}: `inputs` {spec} does not fit {value.name}, which is {_shown(dims)}"
    if len(dims) != len(spec.shape):
        raise BadInput(f"{misfit}: it has {len(dims)} dimensions, not {len(spec.shape)}")
    for dim, size in zip(dims, spec.shape, strict=True):
        if isinstance(dim, int) and dim != size:
            raise BadInput(f"{misfit}: {dim} is fixed")
        if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
            raise BadInput(f"{misfit}: {dim} is {symbols[dim]} elsewhere")


def _dims(value: ir.Value, where: str) -> list[int | str | None] | None:
    """The sizes and symbols of a shape, None for what is not known; exporters also write unknown sizes as -1.

    A size of 0 is what it says to every runtime: no input but an empty one fits.
    """
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise BadInput(f"{where}: input {value.name} is a {value.type}; slimnet feeds tensors only: export without it")
    if value.shape is None:
        return None
    if 0 in value.shape:
        shape = sizes(value.shape)
        raise BadInput(f"{where}: input {value.name} is {shape}, always empty; export it with the size, or left open")
    return [(d if d > 0 else None) if isinstance(d, int) else symbol_of(d) for d in value.shape]


def symbol_of(dim: ir.SymbolicDim) -> str | None:
    """The symbol that stands for one size; None where the file only says that it does not know."""
    return None if dim.value is None or _PLACEHOLDER.fullmatch(dim.value) else dim.value


def _shown(dims: Sequence[int | str | None]) -> str:
    return sizes("?" if d is None else d for d in dims)


def _dtype_name(dtype: ir.DataType) -> str:
    return str(dtype.numpy())
