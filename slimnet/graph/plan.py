"""The plan: which indices of which parameters are kept. A small JSON file that every later verb can start from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file, replacing

Indices = npt.NDArray[np.int64]

FORMAT = 1
#: Limits that no real plan comes near: a larger number is a broken file, not a large network.
MAX_BYTES = 1 << 30
MAX_INDEX = 1 << 31
MAX_RANK = 64


@dataclass
class Plan:
    """What is left of a network.

    Attributes:
        kept: Tensor -> axis -> the kept indices, ascending; tensors and axes that do not change are left out.
        model_hash: The hash of the names, shapes and topology of the dense network the plan is for.
        provenance: How the plan was chosen (method, ratio, ...), for the report; whatever JSON can hold. The file has
            it as `how`.
        source: What messages call the plan: the file it was read from.
    """

    kept: dict[str, dict[int, Indices]]
    model_hash: str
    provenance: dict[str, Any] = field(default_factory=dict)
    source: str = field(default="the plan", compare=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; an existing file is replaced as a whole or not at all.

        Raises:
            BadInput: The file cannot be written.
        """
        kept = {t: {str(k): [int(i) for i in indices] for k, indices in axes.items()} for t, axes in self.kept.items()}
        document = {"format": FORMAT, "model_hash": self.model_hash, "how": self.provenance, "kept": kept}
        text = json.dumps(document, allow_nan=False, default=_plain) + "\n"
        with replacing(Path(path)) as file:
            file.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read and check a plan written by `save` (or by hand).

        Raises:
            BadInput: The file cannot be read, is not JSON, or does not describe a plan; the message says where.
        """
        document = _read(existing_file(path))
        if not isinstance(document, dict):
            raise BadInput(f"{path}: a plan is a JSON object, this is a {type(document).__name__}")
        for key, kind in (("format", int), ("model_hash", str), ("how", dict), ("kept", dict)):
            if not isinstance(document.get(key), kind):
                problem = "has the wrong type" if key in document else "is missing"
                raise BadInput(f"{path}: {key!r} {problem}; write plans with `slimnet prune` or Plan.save")
        if document["format"] != FORMAT:
            raise BadInput(f"{path}: plan format {document['format']} is not known, this version reads {FORMAT}")
        return cls(_kept(document["kept"], path), document["model_hash"], document["how"], str(path))


def _plain(value: Any) -> Any:
    """JSON form of the numpy scalars and arrays that end up in the provenance."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be part of a plan")


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path}: {path.stat().st_size >> 20} MiB is too large for a plan; check the file")
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not JSON (line {error.lineno}: {error.msg}); is this a plan?") from None
    except (ValueError, RecursionError):  # not text, a number with thousands of digits, or nested too deeply
        raise BadInput(f"{path}: not a plan; write plans with `slimnet prune` or Plan.save") from None


def _kept(document: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, dict[int, Indices]]:
    kept: dict[str, dict[int, Indices]] = {}
    for tensor, axes in document.items():
        if not isinstance(axes, dict):
            raise BadInput(f"{path}: tensor {tensor!r} needs an object of axis -> kept indices")
        kept[tensor] = {}
        for axis, indices in axes.items():
            where = f"{path}: tensor {tensor!r}, axis {axis!r}"
            if not (axis.isascii() and axis.isdecimal() and len(axis) <= 2 and int(axis) < MAX_RANK):
                raise BadInput(f"{where}: an axis is a number from 0 to {MAX_RANK - 1}")
            if int(axis) in kept[tensor]:
                raise BadInput(f"{where}: the axis is given twice")
            kept[tensor][int(axis)] = _indices(indices, where)
    return kept


def _indices(indices: Any, where: str) -> Indices:
    if not isinstance(indices, list) or not set(map(type, indices)) <= {int}:
        raise BadInput(f"{where}: the kept indices must be a list of whole numbers")
    if not indices:
        raise BadInput(f"{where}: keeps nothing; at least one index has to stay")
    if min(indices) < 0 or max(indices) >= MAX_INDEX:
        wrong = min(indices) if min(indices) < 0 else max(indices)
        raise BadInput(f"{where}: index {wrong} is out of range")
    array = np.array(indices, np.int64)
    falls = np.flatnonzero(np.diff(array) <= 0)
    if len(falls):
        first, second = array[falls[0]], array[falls[0] + 1]
        problem = "is given twice" if first == second else f"comes after {first}"
        raise BadInput(f"{where}: index {second} {problem}; kept indices ascend")
    return array
