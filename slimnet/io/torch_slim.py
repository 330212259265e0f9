"""Slim PyTorch modules: the original class with fewer channels, saved and loaded without pickled code.

Parameters are cut by name; the attributes that describe them (`in_channels`, `num_features`, `hidden_size`, ...)
follow. Where a `forward` cannot work with the new widths, that is found by running it.
"""

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from slimnet.bench.session import session
from slimnet.errors import BadInput
from slimnet.graph.net import Net, TorchSource
from slimnet.io.files import existing_file, replacing
from slimnet.io.inputs import sizes
from slimnet.io.torch_arch import build, vet
from slimnet.io.torch_forward import ForwardFailed, forward
from slimnet.io.torch_module import metadata
from slimnet.plan.plan import Plan

FILE_NAME = "slim.safetensors"
Kept = Mapping[int, np.ndarray]
Attributes = dict[str, dict[str, Any]]


class CannotSlim(Exception):
    """A module whose class cannot have the widths of a plan; the message names it and the reason."""


def slim_module(source: TorchSource, plan: Plan) -> tuple[nn.Module, Attributes]:
    """A copy of a module with only the channels that a plan keeps.

    Returns:
        The module in eval mode, and module name -> attribute -> value for all attributes in which it differs from what
        its architecture builds. Raises CannotSlim for a class that cannot have these widths.
    """
    module = copy.deepcopy(source.module)
    kept = _with_aliases(module, plan.kept)
    attributes = {name: dict(values) for name, values in source.attributes.items()}
    for name, child in module.named_modules():
        if changed := _follow(name, child, _below(kept, name)):
            attributes.setdefault(name, {}).update(changed)
    cut: dict[int, torch.Tensor] = {}
    for slot in _slots(module):
        if slot.name in kept:
            tensor = slot.tensor
            slot.put(cut.setdefault(id(tensor), _sliced(tensor, kept[slot.name])))
    _apply(module, attributes)
    return module.eval(), attributes


def slim_module_survives(
    module: nn.Module, slim_model: ir.Model, inputs: Mapping[str, np.ndarray]
) -> tuple[bool, str]:
    """Whether a slim module computes what the slim graph computes.

    Args:
        module: what `slim_module` or `load_slim` gave.
        slim_model: the graph.
        inputs: an array for every input of the graph, in the order of the arguments of `forward`.

    Returns:
        True and "", or False and which submodule raises or by how much the outputs differ. The largest difference
        allowed is 1e-4 of the largest finite value (1e-2 in half precision).
    """
    expected = session(slim_model).run(None, dict(inputs))
    try:
        outputs = forward(module, [torch.from_numpy(np.array(x)) for x in inputs.values()], {})
    except ForwardFailed as failure:
        return False, str(failure)
    if len(outputs) != len(expected):
        return False, f"{type(module).__name__} gives {len(outputs)} outputs, the graph {len(expected)}"
    for index, (output, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if why := _difference(output.numpy(force=True), wanted):
            return False, f"output {index} of {type(module).__name__} {why}: its forward depends on the old widths"
    return True, ""


def save_slim(
    net: Net, plan: Plan, path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write the slim module of a network as safetensors, with its architecture in the metadata.

    Args:
        net: the dense network; it must come from PyTorch, with an architecture.
        plan: what to keep.
        path: the file, conventionally slim.safetensors.
        tensors: slim values, by parameter name, that replace those cut from the dense module, e.g. after fine-tuning.

    Raises CannotSlim for a class that cannot have these widths, BadInput where no architecture is known.
    """
    source = net.torch
    if source is None or source.arch is None:
        raise BadInput(f"{net.name}: names no architecture to build its class anew; only slim.onnx can be written")
    module, attributes = slim_module(source, plan)
    dense = {slot.name: slot.tensor.shape for slot in _slots(source.module)}
    state = module.state_dict(keep_vars=True)
    state |= {slot.name: slot.tensor for slot in _slots(module) if slot.tensor.shape != dense[slot.name]}
    unique = {id(tensor): (name, tensor) for name, tensor in reversed(state.items())}
    saved = {name: tensor.detach().contiguous() for name, tensor in unique.values()}
    for name, value in (tensors or {}).items():
        if name in saved:
            saved[name] = torch.from_numpy(np.array(value)).to(saved[name].dtype).reshape(saved[name].shape)
    slimnet = {"attributes": attributes, "model_hash": plan.model_hash}
    notes = {"arch": source.arch, "input": json.dumps(source.inputs), "slimnet": json.dumps(slimnet)}
    with replacing(Path(path)) as temporary:
        save_file(saved, temporary, metadata=notes)


def load_slim(path: str | os.PathLike[str], arch: str | None = None) -> nn.Module:
    """Build the slim module that `save_slim` wrote.

    Args:
        path: the file, or the folder in which slim.safetensors lies.
        arch: the architecture, needed where it is the user's own code; a file may name only built-in ones.

    Returns:
        The module in eval mode. Raises BadInput for any other file, or one that does not fit the architecture.
    """
    module: nn.Module = slim_source(path, arch).module
    return module


def slim_source(path: str | os.PathLike[str], arch: str | None = None) -> TorchSource:
    """As `load_slim`, with what is needed to export the module or to prune it once more."""
    file = existing_file(Path(path) / FILE_NAME if Path(path).is_dir() else path)
    notes = metadata(file)
    if not is_slim(notes):
        raise BadInput(f"{file}: was not written by slimnet; load it as an ordinary checkpoint")
    arch = arch or vet(notes.get("arch", ""), file)
    attributes = json.loads(notes["slimnet"])["attributes"]
    module = build(arch)
    misfit = f"{file}: does not fit --arch {arch}"
    tensors = load_file(file)
    slots = {slot.name: slot for slot in _slots(module)}
    if unknown := [name for name in tensors if name not in slots]:
        raise BadInput(f"{misfit}; it has no {unknown[0]}")
    given = {id(slots[name].tensor) for name in tensors}
    for name in module.state_dict():
        if id(slots[name].tensor) not in given:
            raise BadInput(f"{misfit}; {name} is missing in the file")
    by_tensor = {id(slots[name].tensor): tensor for name, tensor in tensors.items()}
    fresh: dict[int, torch.Tensor] = {}
    for slot in slots.values():
        key = id(slot.tensor)
        if key in by_tensor:
            slot.put(fresh.setdefault(key, _like(slot.tensor, by_tensor[key])))
    try:
        _apply(module, attributes)
    except AttributeError as error:
        raise BadInput(f"{misfit}; {error}") from error
    inputs = tuple(json.loads(notes["input"]))
    return TorchSource(module.eval(), arch, inputs, attributes)


def is_slim(notes: Mapping[str, str]) -> bool:
    """Whether a safetensors file with this metadata was written by `save_slim`."""
    return "slimnet" in notes
