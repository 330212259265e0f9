"""Programs saved by `torch.export.save`, read only after making sure that reading them runs no foreign code.

`torch.export.load` unpickles tensors it cannot store plainly, evaluates size expressions with sympy, looks up the
functions to call by name anywhere in torch, and loads compiled libraries. An ordinary program needs none of this.
"""

import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, existing_file
from slimnet.common.inputs import Input, Inputs, parse_inputs
from slimnet.common.torch_private import tensors_in
from slimnet.graph.net import Net
from slimnet.io.constants import Constants, specialised
from slimnet.io.torch_export import ADVICE, CannotExport, quiet, to_onnx

_RECORDS = ("models/", "data/weights/", "data/constants/", "data/sample_inputs/", ".data/", "archive_", "byteorder")
_CALLS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.(?!from_file)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|scan|while_loop|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_\w+|math\.[a-z]+\d*"
    r"|_operator\.(add|sub|mul|neg|pow|mod|floordiv|truediv|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_SYMBOL = re.compile(r"Symbol\('[su]\d+'(, [a-z]+=(True|False))*\)")
_WORDS = re.compile(
    r"[su]\d+|Integer|Add|Mul|Pow|Rational|Min|Max|Mod|PythonMod|FloorDiv|CeilDiv|IntTrueDiv|CleanDiv|ModularIndexing"
    r"|TruncToInt|floor|ceiling"
)
_SIZE = re.compile(r"[\w\s+\-*/(),]*")


def load_pt2(
    path: str | os.PathLike[str],
    inputs: Inputs = None,
    unsafe_pickle: bool = False,
    constants: Constants | None = None,
) -> Net:
    """Read a program saved by `torch.export.save`.

    Args:
        path: The .pt2 file.
        inputs: The shapes of its inputs (see `parse_inputs`); if None, those it was exported with.
        unsafe_pickle: Whether to read it even if that may run code from the file.
        constants: The inputs that are bound to constants, and their values (see `bind`).

    Returns:
        The network, without a PyTorch side: a program has no class that could be built with fewer channels.
        Raises BadInput for a file that is not such a program, that may run code, or whose inputs do not fit.
    """
    file = existing_file(path)
    if not unsafe_pickle and (danger := _danger(file)):
        raise BadInput(f"{file}: may run code when read ({danger}); pass `unsafe_pickle` if you trust it")
    try:
        with quiet():
            program = torch.export.load(file)
    except Exception as error:
        raise BadInput(f"{file}: cannot be read as an exported program ({essence(error)}); save it again") from error
    try:
        model, notes = to_onnx(program)
    except CannotExport as reason:
        raise BadInput(f"{file}: {reason}; {ADVICE}") from reason
    model.graph.name = file.stem
    given = parse_inputs(inputs) or _exported_with(program, model.graph.inputs)
    given = [spec for spec in given if spec.name is None or spec.name not in (constants or {})]
    return specialised(model, file.stem, given, str(file), constants, notes)


def _exported_with(program: torch.export.ExportedProgram, values: Any) -> list[Input]:
    """The shapes of the example inputs kept in the file."""
    shapes = [tuple(t.shape) for t in tensors_in(program.example_inputs)]
    return [Input(v.name, s) for v, s in zip(values, shapes, strict=True)] if len(shapes) == len(values) else []


def _danger(file: Path) -> str:
    """What in the file needs more than plain tensors and known operators; empty if nothing does."""
    try:
        with PT2ArchiveReader(str(file)) as archive:
            records = {name: archive.read_bytes(name) for name in archive.get_file_names() if _is_read(name)}
            others = [name for name in archive.get_file_names() if not name.startswith(_RECORDS)]
    except RuntimeError as error:
        raise BadInput(f"{file}: is not a .pt2 file of torch 2.8 or newer, or is truncated; save it again") from error
    if others:
        return f"it holds {others[0]}"
    return next((reason for name, data in records.items() for reason in _dangers(name, data)), "")


def _is_read(name: str) -> bool:
    """Whether a file is parsed or unpickled, and so has to be looked at: plain tensors have no suffix."""
    return name.endswith((".json", ".pt"))


def _dangers(name: str, data: bytes) -> Iterator[str]:
    try:
        if name.endswith(".json"):
            yield from _dangers_in_json(name, json.loads(data))
        else:
            torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        yield f"{name} is not plain data: {essence(error)}"


def _dangers_in_json(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _dangers_in_json(name, item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key in ("target", "as_operator") and isinstance(item, str) and not _CALLS.fullmatch(item):
            yield f"it calls {item}"
        elif key == "expr_str" and not _is_size(item):
            yield f"a size is {item}"
        elif key == "use_pickle" and item:
            yield f"{name} holds pickled tensors"
        elif key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(item)):
            yield f"it holds {item}"
        elif key in ("in_spec", "out_spec") and re.search("default_factory|__enum__", str(item)):
            yield "its arguments are of foreign types"
        else:
            yield from _dangers_in_json(name, item)


def _is_size(expression: Any) -> bool:
    text = _SYMBOL.sub("s0", str(expression))
    return bool(_SIZE.fullmatch(text)) and all(_WORDS.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", text))
