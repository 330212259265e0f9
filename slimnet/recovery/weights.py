"""Fitted weights on their way: into a network, and to a file from which the comparison can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, existing_file, replacing
from slimnet.graph.axes import Bools
from slimnet.graph.parameters import set_weights
from slimnet.graph.units import Trace

Weights = Mapping[str, npt.NDArray[Any]]
#: The file beside a plan that holds what is kept of fitted weights.
WEIGHTS = "recovered.safetensors"


def with_weights(model: ir.Model, weights: Weights) -> ir.Model:
    """A copy of a network in which these initializers hold these values."""
    copy = model.clone()
    set_weights(copy, weights)
    return copy


def save_weights(path: Path, trace: Trace, removed: Bools, weights: Weights) -> None:
    """Write what is kept of fitted weights; the file appears whole or not at all."""
    parts = {name: np.ascontiguousarray(array[_kept(trace, removed, name, array.shape)], np.float32)
             for name, array in weights.items()}  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(save(parts, {"model_hash": trace.model_hash}))


def load_weights(path: Path, trace: Trace, removed: Bools) -> dict[str, npt.NDArray[Any]]:
    """The dense network's weights with the fitted parts that `save_weights` wrote.

    Raises:
        BadInput: The file is missing or damaged, or belongs to another network or plan.
    """
    try:
        parts = load_file(existing_file(path))
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: cannot be read: {essence(error)}; copy it again") from error
    dense, found = trace.net.params(), {}
    for name, part in parts.items():
        if name not in dense:
            raise BadInput(f"{path}: holds {name}, which {trace.net.name} has not; give the file of the same plan")
        whole = np.array(dense[name])
        index = _kept(trace, removed, name, whole.shape)
        if whole[index].shape != part.shape:
            raise BadInput(
                f"{path}: {name} has shape {list(part.shape)}, and the plan keeps {list(whole[index].shape)}; "
                "give the file of the same plan"
            )
        whole[index] = part.astype(whole.dtype)
        found[name] = whole
    return found


def _kept(trace: Trace, removed: Bools, name: str, shape: tuple[int, ...]) -> Any:
    """The index of what is kept of a weight."""
    axes = (trace.kept(name, k, removed) if trace.units_on(name, k) is not None else np.ones(n, bool)
            for k, n in enumerate(shape))  # fmt: skip
    return np.ix_(*map(np.flatnonzero, axes))
