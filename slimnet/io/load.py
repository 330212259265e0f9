"""Load and save: ONNX files, PyTorch modules and checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.common.errors import BadInput
from slimnet.graph.net import Net

if TYPE_CHECKING:
    from torch import nn

    from slimnet.common.inputs import Inputs
    from slimnet.io.constants import Constants

TORCH_SUFFIXES = (".pt", ".pth", ".th", ".ckpt", ".bin", ".tar", ".safetensors")


def load(
    model: str | os.PathLike[str] | nn.Module | None,
    arch: str | None = None,
    inputs: Inputs = None,
    unsafe_pickle: bool = False,
    constants: Constants | None = None,
    cache: bool = True,
) -> Net:
    """Load a network from a file, or from a module in memory.

    Args:
        model: An .onnx file; a PyTorch checkpoint (.pt, .pth, .th, .ckpt, .bin, .tar, .safetensors, a slim.safetensors
            among them); a .pt2 program; a `torch.nn.Module`, which is looked at in eval mode but not changed, or one
            inside torch.compile, DataParallel and the like; or None for `arch` with random weights.
        arch: The architecture of a checkpoint: `torchvision:NAME`, `timm:NAME`, `models:NAME`, `FILE.py:CALLABLE` or
            `package.module:CALLABLE`, with keyword arguments as in `torchvision:resnet50?num_classes=10`. A module in
            memory needs it only to be written as slim.safetensors.
        inputs: The shapes of the inputs: "1x3x224x224", ["ids=1x16:int64", "mask=1x16"], (1, 3, 224, 224) or
            {"ids": (1, 16)}; may be left out where the file says it.
        unsafe_pickle: Whether to read pickles that may run code.
        constants: The inputs of an .onnx or .pt2 file that are bound to constants, such as {"rate": 16000}; branches
            that they choose take the place of the choice.
        cache: Whether the graph of a module may be one that was exported before, from the user's cache folder, and go
            there; weights never do. It is used only if it computes what the module computes.

    Returns:
        The network, whose graph is as in the file or as torch.export gives it, unoptimised. The weights of a module
        follow it: trained, moved or replaced, they are read when they are needed. ONNX files never import torch.
        Raises BadInput, one line that says what to do, for anything that cannot be used as given.
    """
    if constants and Path(str(model)).suffix.lower() not in (".onnx", ".pt2"):
        raise BadInput(
            f"`constants` {', '.join(constants)}: only inputs of .onnx and .pt2 files are bound; let `arch` name a "
            "class or function that fixes it in the module"
        )
    if model is not None and not isinstance(model, str | os.PathLike):
        return _from_module(model, arch, inputs, cache)
    suffix = Path(model).suffix.lower() if model is not None else ""
    if suffix in (".onnx", ".pt2") and arch is not None:
        raise BadInput(f"{model}: brings its own graph, so `arch` {arch} has no use; leave it out")
    if suffix == ".onnx":
        from slimnet.io.onnx_file import load_onnx

        return load_onnx(str(model), inputs, constants)
    if suffix == ".pt2":
        from slimnet.io.torch_pt2 import load_pt2

        return load_pt2(str(model), inputs, unsafe_pickle, constants)
    if model is not None and suffix not in TORCH_SUFFIXES:
        if Path(model).is_dir():
            raise BadInput(f"{model}: is a folder; name a file in it")
        raise BadInput(f"{model}: its kind is not known; slimnet reads .onnx, .pt2, {', '.join(TORCH_SUFFIXES)}")
    return _from_checkpoint(model, arch, inputs, unsafe_pickle, cache)


def _from_checkpoint(
    path: str | os.PathLike[str] | None, arch: str | None, inputs: Inputs, unsafe_pickle: bool, cache: bool
) -> Net:
    from slimnet.common.files import existing_file
    from slimnet.io.torch_export import export_torch
    from slimnet.io.torch_module import load_torch, metadata
    from slimnet.io.torch_slim import is_slim, slim_source

    if path is not None and Path(path).suffix == ".safetensors" and is_slim(metadata(existing_file(path))):
        source = slim_source(path, arch, inputs)
    else:
        source = load_torch(path, arch, inputs, unsafe_pickle)
    name = Path(path).stem if path is not None else str(arch).partition("?")[0].rpartition(":")[2]
    return export_torch(source, name, str(path) if path is not None else None, cache=cache)


def _from_module(module: Any, arch: str | None, inputs: Inputs, cache: bool) -> Net:
    from torch import nn

    from slimnet.common.inputs import parse_inputs
    from slimnet.graph.net import TorchSource
    from slimnet.io.torch_export import export_torch
    from slimnet.io.torch_weights import unwrapped

    if not isinstance(module, nn.Module):
        raise BadInput(f"cannot load a {type(module).__name__}; pass a path or a torch.nn.Module")
    module = unwrapped(module)
    source = TorchSource(module, arch, tuple(str(i) for i in parse_inputs(inputs)))
    return export_torch(source, type(module).__name__, cache=cache)
