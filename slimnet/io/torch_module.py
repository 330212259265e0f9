"""Reading of PyTorch checkpoints: find the architecture, build it, fit the weights into it."""

import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, existing_file
from slimnet.common.inputs import Inputs, parse_inputs, sizes
from slimnet.common.names import without_wrappers
from slimnet.common.python_file import importable
from slimnet.graph.net import TorchSource
from slimnet.io.torch_arch import FORMS, build, vet, zoo_inputs

#: Where training scripts put the weights, most specific first.
WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict"),
)
#: Counters that change nothing at inference: BatchNorm's, AveragedModel's, and those of two FLOP counters.
COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
TORCHSCRIPT = "is a TorchScript archive; save the state_dict instead, or export ONNX"


@dataclass
class Checkpoint:
    """What a file holds: tensors by name, or a whole module, and what it says about itself in plain values."""

    tensors: dict[str, torch.Tensor]
    module: nn.Module | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def load_torch(
    path: str | os.PathLike[str] | None, arch: str | None = None, inputs: Inputs = None, unsafe_pickle: bool = False
) -> TorchSource:
    """Read a PyTorch checkpoint into the architecture it belongs to.

    Args:
        path: A .safetensors file, or anything that `torch.load` reads; None for random weights, the same every time.
        arch: The architecture (see `torch_arch.build`); where it is None the file has to name a built-in one.
        inputs: The shapes and types of the inputs (see `parse_inputs`); if None, those that the file names.
        unsafe_pickle: Whether to allow a pickle that may run code, such as a whole pickled module.

    Returns:
        The module in eval mode, with all weights from the file. Raises BadInput where the file cannot be read, needs
        code that is not allowed, names no architecture or does not fit it.
    """
    if path is None:
        if arch is None:
            raise BadInput(f"neither a file nor `arch` is given; name a network: {FORMS}")
        return TorchSource(build(arch), arch, _inputs(inputs, {}, arch))
    file = existing_file(path)
    read = _read_safetensors if file.suffix == ".safetensors" else _read_pickle
    checkpoint = read(file, unsafe_pickle)
    if checkpoint.module is not None and arch is None:
        return TorchSource(checkpoint.module.eval(), None, _inputs(inputs, checkpoint.notes, ""))
    if arch is None:
        arch = _arch_inside(checkpoint.notes, file)
    module = build(arch)
    fit(module, checkpoint.tensors, file, arch)
    return TorchSource(module, arch, _inputs(inputs, checkpoint.notes, arch), notes=checkpoint.notes)


def metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises BadInput if it is none."""
    try:
        with safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})
    except SafetensorError as error:
        raise BadInput(f"{file}: is not a safetensors file, or is truncated ({essence(error)})") from error


def fit(module: nn.Module, tensors: Mapping[str, torch.Tensor], file: Path, arch: str) -> None:
    """Copy the tensors of a checkpoint into a module; BadInput names the first keys or shapes that do not fit."""
    expected = module.state_dict()
    state = _renamed(tensors, set(expected))
    misfit = f"{file}: does not fit `arch` {arch}"
    missing = _listed(name for name in expected if name not in state)
    unexpected = _listed(name for name in state if name not in expected)
    if missing or unexpected:
        parts = [missing and f"missing in the file: {missing}", unexpected and f"unexpected in it: {unexpected}"]
        raise BadInput(f"{misfit}; {'; '.join(filter(None, parts))}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{sizes(tensor.shape)} in the file, {sizes(expected[name].shape)} in the network"
            raise BadInput(f"{misfit}; {name} is {shapes}: perhaps `arch` needs keywords, such as ?num_classes=10")
    module.load_state_dict(state, strict=False)


def _read_safetensors(file: Path, unsafe_pickle: bool) -> Checkpoint:
    notes: dict[str, Any] = dict(metadata(file))
    if "input" in notes:
        notes["input"] = _from_json(notes["input"])
    with safe_open(file, "pt") as opened:
        return Checkpoint({name: opened.get_tensor(name) for name in opened.keys()}, notes=notes)  # noqa: SIM118


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # "1x3x224x224" is a spec of its own


def _read_pickle(file: Path, unsafe_pickle: bool) -> Checkpoint:
    try:
        with importable(Path.cwd()):
            content = torch.load(file, map_location="cpu", weights_only=not unsafe_pickle)
    except Exception as error:
        if "TorchScript" in str(error):
            raise BadInput(f"{file}: {TORCHSCRIPT}") from error
        if unsafe_pickle:
            raise BadInput(f"{file}: cannot be unpickled: {type(error).__name__}: {essence(error)}") from error
        if isinstance(error, pickle.UnpicklingError):
            reason = "is not a checkpoint, or holds more than tensors, which runs code when read"
            raise BadInput(f"{file}: {reason}; pass `unsafe_pickle` if you trust it{_culprit(error)}") from error
        raise BadInput(f"{file}: is not a PyTorch checkpoint, or is truncated; save or copy it again") from error
    if isinstance(content, torch.jit.ScriptModule):
        raise BadInput(f"{file}: {TORCHSCRIPT}")
    return _unwrapped(content, file)


def _culprit(error: Exception) -> str:
    """The class that the pickle wants, from the message of torch's restricted unpickler."""
    _, _, rest = str(error).partition("Unsupported global: GLOBAL ")
    return f" (it wants {rest.split()[0]})" if rest else ""


def _unwrapped(content: Any, file: Path) -> Checkpoint:
    if isinstance(content, nn.Module):
        return Checkpoint(content.state_dict(), content)
    if not isinstance(content, Mapping):
        raise BadInput(f"{file}: holds a {type(content).__name__}, not a state_dict; save model.state_dict()")
    notes = {k: v for k, v in content.items() if isinstance(v, str | int | float | list | tuple)}
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, nn.Module):
            return Checkpoint(inner.state_dict(), inner, notes)
        if isinstance(inner, Mapping):
            return Checkpoint(_unwrapped(inner, file).tensors, notes=notes)
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        keys = ", ".join(str(k) for k in list(content)[:5]) or "none"
        raise BadInput(f"{file}: no weights found under its keys ({keys}); save model.state_dict()")
    return Checkpoint(tensors, notes=notes)


def _arch_inside(notes: Mapping[str, Any], file: Path) -> str:
    if not isinstance(arch := notes.get("arch"), str):
        raise BadInput(f"{file}: holds weights but no architecture; pass `arch`, one of {FORMS}")
    return vet(arch, file)


def _inputs(given: Inputs, notes: Mapping[str, Any], arch: str) -> tuple[str, ...]:
    """The inputs as specs: those given, else those the checkpoint names, else those of slimnet's own networks."""
    known = given if given is not None else notes.get("input", zoo_inputs(arch))
    return tuple(str(i) for i in parse_inputs(known))


def _renamed(tensors: Mapping[str, torch.Tensor], expected: set[str]) -> dict[str, torch.Tensor]:
    """The tensors under the names the module uses: wrappers' prefixes off, pruning masks applied, counters dropped."""
    state = without_wrappers(tensors, expected)
    # The files published for torchvision's DenseNets are older than its names.
    state = {n if n in expected else re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", n): t for n, t in state.items()}
    _apply_masks(state, expected)
    return {n: t for n, t in state.items() if n in expected or not n.endswith(COUNTERS)}


def _apply_masks(state: dict[str, torch.Tensor], expected: set[str]) -> None:
    """What torch.nn.utils.prune saves as weight_orig and weight_mask is one parameter, weight."""
    for name in [n.removesuffix("_orig") for n in state if n.endswith("_orig")]:
        if name in expected and f"{name}_mask" in state:
            state[name] = state.pop(f"{name}_orig") * state.pop(f"{name}_mask")


def _listed(names: Any) -> str:
    """The first three names and how many more, without the counters that a checkpoint may leave out."""
    found = [name for name in names if not name.endswith(COUNTERS)]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
