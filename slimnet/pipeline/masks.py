"""Masks that other tools made: an .npz file of booleans or indices per parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.common.files import read_npz
from slimnet.graph.axes import Bools
from slimnet.graph.net import Net
from slimnet.graph.shrink import shrinkable
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace


@dataclass(frozen=True)
class Masks:
    """What stays: `elements` per parameter, bool in its shape; `lines` per parameter and axis, one bool per index."""

    elements: dict[str, Bools]
    lines: dict[tuple[str, int], Bools]


def read_masks(path: Path, net: Net) -> Masks:
    """Read masks for a network.

    Every array is named after a parameter, or PARAMETER:AXIS (axis 0 if left out). It holds booleans (true stays) in
    the shape of the parameter or along the axis, or the indices along the axis that stay.

    Raises:
        BadInput: not an .npz file, an unknown parameter, or an array that fits none of these forms.
    """
    given = read_npz(path, "`mask`")
    if not given:
        raise BadInput(f"`mask` {path}: holds no array; give one per parameter, named after it")
    masks = Masks({}, {})
    params = net.params()
    for key, array in given.items():
        _add(masks, params, key, array, f"`mask` {path}: {key}")
    return masks


def _add(masks: Masks, params: Mapping[str, npt.NDArray[Any]], key: str, array: npt.NDArray[Any], where: str) -> None:
    name, _, suffix = (key, "", "") if key in params else key.rpartition(":")
    if name not in params or (suffix and not suffix.isdecimal()):
        raise BadInput(f"{where} is no parameter of the network; its names are like {next(iter(params))}")
    shape, axis = params[name].shape, int(suffix or 0)
    if axis >= len(shape):
        raise BadInput(f"{where}: {name} has {len(shape)} axes, counted from 0")
    length = shape[axis]
    if array.dtype == bool and array.shape == (length,) and not array.any():
        raise BadInput(f"{where} masks every index of {name}, axis {axis}; at least one has to stay")
    if array.dtype == bool and array.shape == shape and not suffix:
        masks.elements[name] = array
    elif array.dtype == bool and array.shape == (length,):
        masks.lines[name, axis] = array
    elif array.dtype.kind in "iu" and array.ndim == 1 and array.size and 0 <= array.min() <= array.max() < length:
        masks.lines[name, axis] = np.isin(np.arange(length), array)
    else:
        raise BadInput(
            f"{where} is {array.dtype} of shape {array.shape}; give booleans of shape {shape} or ({length},), "
            f"or indices below {length}"
        )


def masked_units(net: Net, masks: Masks) -> tuple[Trace, Bools]:
    """The units that masks take out; what they mask beyond that is set to zero in the weights.

    Raises:
        BadInput: a whole channel that is pinned, or no whole channel at all.
    """
    if masks.elements:
        found = shrinkable(_multiplied(net, masks.elements), assume_masked=True)
        traced, removed = found.trace, found.removed
    else:
        traced = trace(net)
        removed = np.zeros(traced.n_units, bool)
    for (tensor, axis), keep in masks.lines.items():
        removed = removed | _units_of(traced, tensor, axis, ~keep)
    for (tensor, axis), keep in masks.lines.items():
        _check_kept(traced, tensor, axis, keep, removed)
    if not removed.any():
        raise BadInput("`mask`: masks no whole channel; `slimnet trace` shows what can be removed")
    return traced, removed


def _multiplied(net: Net, elements: Mapping[str, Bools]) -> Net:
    model = net.model.clone()
    for name, keep in elements.items():
        value = model.graph.initializers[name]
        tensor = value.const_value
        assert tensor is not None
        array = tensor.numpy()
        value.const_value = ir.Tensor(np.where(keep, array, np.zeros((), array.dtype)), tensor.dtype, name=name)
    return replace(net, model=model)


def _units_of(traced: Trace, tensor: str, axis: int, masked: Bools) -> Bools:
    """The units behind the masked indices of an axis, all of which must be removable."""
    units = _unit_per_index(traced, tensor, axis, masked)[masked]
    if (units < 0).any():
        raise BadInput(f"`mask`: {tensor}, axis {axis}: masks channels that are pinned; `slimnet trace` says why")
    removed = np.zeros(traced.n_units, bool)
    removed[units] = True
    return removed


def _check_kept(traced: Trace, tensor: str, axis: int, keep: Bools, removed: Bools) -> None:
    units = _unit_per_index(traced, tensor, axis, keep)
    lost = np.flatnonzero(keep & (units >= 0) & np.append(removed, False)[units])
    if len(lost):
        raise BadInput(
            f"`mask`: {tensor}, axis {axis}: keeps index {lost[0]}, whose channel is masked elsewhere; "
            "channels that belong together go together, see `slimnet trace`"
        )


def _unit_per_index(traced: Trace, tensor: str, axis: int, like: Bools) -> npt.NDArray[np.int64]:
    """The unit of every index of an axis, -1 where it is pinned."""
    units = traced.units_on(tensor, axis)
    return np.full(len(like), -1) if units is None else units
