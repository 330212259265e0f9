"""Slim PyTorch modules: the original class with fewer channels, saved and loaded without pickled code.

Parameters are cut by name, and the attributes that describe them follow. Where a `forward` cannot work with the new
widths, that is found by running it.
"""

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from safetensors.torch import load_file, save
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file, replacing
from slimnet.common.inputs import Inputs, parse_inputs, sizes
from slimnet.graph.net import Net, TorchSource
from slimnet.graph.plan import Plan
from slimnet.io.torch_arch import build, vet
from slimnet.io.torch_copy import copied
from slimnet.io.torch_follow import ATTRIBUTES, Kept, follow
from slimnet.io.torch_forward import ForwardFailed, forward, one_thread
from slimnet.io.torch_module import metadata
from slimnet.io.torch_weights import Place, array_of, places_of_tensors
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT

FILE_NAME = "slim.safetensors"
Attributes = dict[str, dict[str, Any]]


def slim_module(source: TorchSource, plan: Plan) -> tuple[nn.Module, Attributes]:
    """A copy of a module with only the channels that a plan keeps.

    Returns:
        The module in eval mode, and module name -> attribute -> value for all attributes in which it differs from what
        its architecture builds. Raises `torch_follow.CannotSlim` for a class that cannot have these widths.
    """
    dense = _tensors(source.module)
    kept = _kept(plan, dense)
    # What is cut has its values copied by that; only the rest is copied whole.
    module = copied(source.module, shared=[places[0].tensor for places in dense if places[0].name in kept])
    tensors = _tensors(module)
    attributes = {name: dict(values) for name, values in source.attributes.items()}
    for name, child in module.named_modules():
        if (inside := _inside(kept, name)) and (changed := follow(name, child, inside)):
            attributes.setdefault(name, {}).update(changed)
    for places in tensors:
        if places[0].name in kept:
            _put(places, _cut(places[0].tensor, kept[places[0].name]))
    _set(module, attributes)
    return module.eval(), attributes


def slim_module_survives(
    module: nn.Module, slim_model: ir.Model, inputs: Feeds, backend: Backend = DEFAULT
) -> tuple[bool, str]:
    """Whether a slim module computes what a graph computes.

    Args:
        module: The slim module, from `slim_module` or `load_slim`.
        slim_model: The slim graph.
        inputs: One array for every input of the graph.
        backend: The backend that runs the graph.

    Returns:
        True and "", or False and which submodule raises or by how much the outputs differ. A difference up to 1e-4
        (half precision: 1e-2) of the largest value counts as rounding.
    """
    expected = backend.session(slim_model).run(inputs)
    tensors = {name: _placed(array, module) for name, array in inputs.items()}
    # The exporter names a graph's inputs after the arguments of forward, except those of *args.
    by_name = tensors.keys() <= inspect.signature(module.forward).parameters.keys()
    try:
        with one_thread():
            outputs = forward(module, () if by_name else list(tensors.values()), tensors if by_name else {})
    except ForwardFailed as failure:
        return False, str(failure)
    if len(outputs) != len(expected):
        return False, f"{type(module).__name__} gives {len(outputs)} outputs, the graph {len(expected)}"
    for output, wanted in zip(outputs, expected, strict=True):
        if why := _difference(array_of(output), wanted):
            cause = "its forward depends on a width that has changed, or its weights are not those of the graph"
            return False, f"{type(module).__name__} {why}: {cause}"
    return True, ""


def save_slim(
    net: Net,
    plan: Plan,
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray] | None = None,
    slim: tuple[nn.Module, Attributes] | None = None,
) -> None:
    """Write the slim module of a network as safetensors, with its architecture in the metadata.

    Args:
        net: The dense network; it must come from PyTorch, with an architecture.
        plan: The plan, which says what to keep.
        path: The file to write, by convention slim.safetensors.
        tensors: The slim values by parameter name, used instead of those cut from the dense module (after fine-tuning).
        slim: What `slim_module` gives for this plan, where it was made already.

    Raises:
        CannotSlim: The class of a module cannot have these widths.
        BadInput: No architecture is known.
    """
    source = net.torch
    if source is None or source.arch is None:
        raise BadInput(f"{net.name}: has no `arch` to build its class anew, so only slim.onnx can be written")
    module, attributes = slim or slim_module(source, plan)
    dense = {place.name: place.tensor.shape for places in _tensors(source.module) for place in places}
    persistent = module.state_dict().keys()
    saved = {}
    for name, *_, tensor in (places[0] for places in _tensors(module)):
        if name in persistent or tensor.shape != dense[name]:
            saved[name] = tensor.detach().contiguous()
    for name in saved.keys() & (tensors or {}).keys():
        saved[name] = _same_kind(torch.from_numpy(np.array((tensors or {})[name])), saved[name], name)
    own = {"attributes": attributes, "model_hash": plan.model_hash}
    notes = {"arch": source.arch, "input": json.dumps(source.inputs), "slimnet": json.dumps(own)}
    with replacing(Path(path)) as temporary:
        # Not save_file, whose files nobody but their owner may read.
        temporary.write_bytes(save(saved, metadata=notes))


def load_tensors(module: nn.Module, tensors: Mapping[str, np.ndarray]) -> None:
    """Copy values by parameter name into a slim module.

    Raises:
        BadInput: A tensor has another shape.
    """
    with torch.no_grad():
        for places in _tensors(module):
            name = next((place.name for place in places if place.name in tensors), None)
            if name is not None:
                places[0].tensor.copy_(_same_kind(torch.from_numpy(np.array(tensors[name])), places[0].tensor, name))


def load_slim(path: str | os.PathLike[str], arch: str | None = None) -> nn.Module:
    """Build the slim module that `save_slim` wrote.

    Args:
        path: The file, or the folder in which slim.safetensors lies.
        arch: The architecture, needed where it is the user's own code; a file may name only built-in ones.

    Returns:
        The module in eval mode. Raises BadInput for any other file, or one that does not fit the architecture.
    """
    module: nn.Module = slim_source(path, arch).module
    return module


def slim_source(path: str | os.PathLike[str], arch: str | None = None, inputs: Inputs = None) -> TorchSource:
    """The module of `load_slim`, with what it takes to export or prune it again; `inputs` replaces the file's."""
    file = existing_file(Path(path) / FILE_NAME if Path(path).is_dir() else path)
    notes = metadata(file)
    if not is_slim(notes):
        raise BadInput(f"{file}: was not written by slimnet; load it as an ordinary checkpoint")
    arch = arch or vet(notes.get("arch", ""), file)
    module = build(arch)
    misfit = f"{file}: does not fit `arch` {arch}"
    saved = load_file(file)
    persistent = module.state_dict().keys()
    for places in _tensors(module):
        if name := next((place.name for place in places if place.name in saved), None):
            _put(places, saved.pop(name))
        elif places[0].name in persistent:
            raise BadInput(f"{misfit}: {places[0].name} is missing in the file")
    if saved:
        raise BadInput(f"{misfit}: the network has no {next(iter(saved))}")
    try:
        attributes = json.loads(notes["slimnet"])["attributes"]
        _set(module, attributes)
    except (AttributeError, KeyError, json.JSONDecodeError) as error:
        raise BadInput(f"{misfit}: {error}") from error
    specs = parse_inputs(json.loads(notes["input"]) if inputs is None else inputs)
    return TorchSource(module, arch, tuple(str(spec) for spec in specs), attributes)


def is_slim(notes: Mapping[str, str]) -> bool:
    """Whether a safetensors file with this metadata was written by `save_slim`."""
    return "slimnet" in notes


def _tensors(module: nn.Module) -> list[list[Place]]:
    """Every tensor that is a parameter, a buffer or a plain attribute, with all its places: weights may be tied."""
    found: dict[int, list[Place]] = {}
    for place in places_of_tensors(module):
        found.setdefault(id(place.tensor), []).append(place)
    return list(found.values())


def _put(places: list[Place], tensor: torch.Tensor) -> None:
    """Put a tensor in all places of another, as a parameter if that was one."""
    old = places[0].tensor
    new = nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    for place in places:
        setattr(place.owner, place.key, new)


def _cut(tensor: torch.Tensor, axes: Mapping[int, np.ndarray]) -> torch.Tensor:
    result = tensor.detach()
    for axis, indices in axes.items():
        result = result.index_select(axis, torch.from_numpy(np.array(indices)).to(tensor.device))
    return result


def _same_kind(new: torch.Tensor, old: torch.Tensor, name: str) -> torch.Tensor:
    if new.shape != old.shape:
        raise BadInput(f"{name}: is {sizes(new.shape)}, and {sizes(old.shape)} in the plan; pass slim tensors")
    return new.to(old.dtype).contiguous()


def _kept(plan: Plan, tensors: list[list[Place]]) -> dict[str, dict[int, np.ndarray]]:
    """The kept indices of each tensor of a module, under all its names.

    A plan may speak of single uses of a vector, as "bias@node:2"; the module has one vector for all of them, and an
    index that one use has lost is removed. If another use still needs it, the module will not compute the same.
    """
    uses: dict[str, list[Mapping[int, np.ndarray]]] = {}
    for key, use in plan.kept.items():
        uses.setdefault(key.partition("@")[0], []).append(use)
    kept: dict[str, dict[int, np.ndarray]] = {}
    for places in tensors:
        left: dict[int, np.ndarray] = {}
        for axes in (axes for place in places for axes in uses.get(place.name, ())):
            left |= {axis: np.intersect1d(left.get(axis, indices), indices) for axis, indices in axes.items()}
        if left:
            kept |= {place.name: left for place in places}
    return kept


def _inside(kept: Mapping[str, Mapping[int, np.ndarray]], name: str) -> Kept:
    """The part of `kept` that belongs to a module and its children, by names relative to it."""
    prefix = f"{name}." if name else ""
    return {key.removeprefix(prefix): axes for key, axes in kept.items() if key.startswith(prefix)}


def _set(module: nn.Module, attributes: Attributes) -> None:
    for name, values in attributes.items():
        child = module.get_submodule(name)
        for key, value in values.items():
            if key not in ATTRIBUTES or not hasattr(child, key):
                raise AttributeError(f"{name} has no {key} to change")
            setattr(child, key, tuple(value) if isinstance(value, list) else value)


def _placed(array: np.ndarray, module: nn.Module) -> torch.Tensor:
    """An input of the graph as the module takes it, which may have moved to another device or floating type."""
    tensor = torch.from_numpy(np.array(array))
    parameter = next((p for p in module.parameters() if p.is_floating_point()), tensor)
    return tensor.to(parameter.device, parameter.dtype if tensor.dtype == torch.float32 else tensor.dtype)


def _difference(output: np.ndarray, wanted: np.ndarray) -> str:
    """How an output differs from the graph's beyond rounding; empty if it does not."""
    if output.shape != wanted.shape:
        return f"gives an output of shape {sizes(output.shape)}, the graph {sizes(wanted.shape)}"
    finite = np.isfinite(wanted.astype(np.float64))
    error = np.abs(output.astype(np.float64) - wanted)[finite].max(initial=0)
    largest = np.abs(wanted.astype(np.float64))[finite].max(initial=0)
    tolerance = 1e-2 if min(output.dtype.itemsize, wanted.dtype.itemsize) < 4 else 1e-4
    return "" if error <= tolerance * largest else f"differs from the graph by {error:.1e} of {largest:.1e}"
