"""Graphs that torch has exported before, without their weights, in the user's cache folder.

Exporting takes seconds and gives the same graph for the same architecture every time. A cached graph is found by
everything that decides it (see `torch_identity`), gets the weights of the module at hand, and is used only if it then
computes what the module computes. The files hold no code: a checksum and an ONNX graph, read within limits, and only
from a folder that nobody else can write to. Whatever is wrong with one, it is left and the module is exported anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.common.files import replacing
from slimnet.io.torch_forward import Arguments, forward, one_thread
from slimnet.io.torch_identity import Unknown, identity
from slimnet.runtime.onnxruntime import OnnxRuntime

#: The environment variable that names another folder; an empty one switches the cache off.
VARIABLE = "SLIMNET_CACHE"
#: Bytes that one graph may have, and all of them together; the longest unused ones go first.
LARGEST, ALTOGETHER = 32_000_000, 256_000_000
#: A cached graph may differ from its module by this fraction of the largest output.
TOLERANCE = {2: 1e-2, 4: 1e-4}
_SUFFIX = ".graph"
_NOTE = "slimnet.weights"

_log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """The folder of cached graphs; None where the cache is switched off."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimnet" / "graphs"


class CachedGraph:
    """The place of the graph of one module, for one set of inputs, in the cache."""

    def __init__(self, module: nn.Module, arguments: Arguments) -> None:
        """Find the place; there is none where the cache is off, or something that decides the graph is not known."""
        self._module, self._arguments = module, arguments
        self._file: Path | None = None
        with suppress(Unknown, OSError, RuntimeError, ImportError):  # no home, a tensor without values, ...
            folder = cache_folder()
            if folder is not None:
                self._file = folder / f"{identity(module, arguments)}{_SUFFIX}"

    def read(self) -> ir.Model | None:
        """The graph with the weights of the module, if it is there and computes what the module computes."""
        if self._file is None or not self._file.exists():
            return None
        try:
            model = _unpacked(_content(self._file), _state(self._module))
            if not _agrees(model, self._module, self._arguments):
                raise ValueError("it does not compute what the module computes")
            os.utime(self._file)
        except Exception as error:  # whatever a damaged or foreign file makes of it
            _log.info("cached graph %s is not used: %s", self._file, error)
            with suppress(OSError):
                self._file.unlink()
            return None
        return model

    def write(self, model: ir.Model) -> None:
        """Keep a graph that was just exported; it is no mistake if that cannot be done."""
        if self._file is None:
            return
        packed = _packed(model, _state(self._module))
        if packed is None or len(packed) > LARGEST:
            return
        with suppress(OSError, BadInput):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _check_own(self._file.parent)
            with replacing(self._file) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(hashlib.sha256(packed).digest() + packed)
            _forget_the_oldest(self._file.parent)


def _content(file: Path) -> bytes:
    """The graph in a file. Raises ValueError or OSError for one that is too large, damaged, or somebody else's."""
    _check_own(file.parent)
    _check_own(file)
    if file.stat().st_size > LARGEST + 32:
        raise ValueError("it is too large")
    content = file.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError("it is damaged")
    return content[32:]


def _check_own(path: Path) -> None:
    """Raise PermissionError where a file or folder may be written to by others."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"{path} is a link")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError(f"others may write to {path}")


def _forget_the_oldest(folder: Path) -> None:
    found = []
    for file in folder.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process forgets as well
            found.append((file.stat().st_mtime, file.stat().st_size, file))
    total = sum(size for _, size, _ in found)
    for _, size, file in sorted(found):
        if total <= ALTOGETHER:
            break
        file.unlink(missing_ok=True)
        total -= size


# -- graphs without weights --------------------------------------------------------------------------------------------


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers of a module under all their names."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _packed(model: ir.Model, state: dict[str, torch.Tensor]) -> bytes | None:
    """A graph whose weights are inputs; None where an initializer has a weight's name but not its values."""
    copy = model.clone()
    order = list(copy.graph.initializers)
    weights = [name for name in order if name in state]
    for name in weights:
        value = copy.graph.initializers.pop(name)
        tensor = value.const_value
        if tensor is None or not np.array_equal(_bytes(tensor), _bytes(TorchTensor(state[name].detach().cpu()))):
            return None
        value.shape, value.dtype, value.const_value = ir.Shape(tensor.shape.numpy()), tensor.dtype, None
        copy.graph.inputs.append(value)
    copy.metadata_props[_NOTE] = json.dumps({"order": order, "weights": weights})
    return ir.to_proto(copy).SerializeToString()


def _bytes(tensor: ir.TensorProtocol) -> np.ndarray:
    return np.frombuffer(tensor.tobytes(), np.uint8)


def _unpacked(content: bytes, state: dict[str, torch.Tensor]) -> ir.Model:
    """The graph with the tensors of a module as its weights. Raises whatever a file that does not fit makes of it."""
    model = ir.from_proto(onnx.load_model_from_string(content))
    note = json.loads(model.metadata_props.pop(_NOTE))
    graph, weights = model.graph, set(note["weights"])
    found = dict(graph.initializers)
    if any(isinstance(value.const_value, ir.ExternalTensor) for value in _initializers(model)):
        raise ValueError("it points to another file")
    for value in [value for value in graph.inputs if value.name in weights]:
        graph.inputs.remove(value)
        tensor = TorchTensor(state[str(value.name)], name=value.name)
        if value.shape != tensor.shape or value.dtype != tensor.dtype:
            raise ValueError(f"{value.name} is of another shape or type")
        value.const_value = tensor
        found[str(value.name)] = value
    graph.initializers.clear()
    for name in note["order"]:
        graph.register_initializer(found[name])
    return model


def _initializers(model: ir.Model) -> Iterable[ir.Value]:
    return (value for graph in model.graphs() for value in graph.initializers.values())


def _agrees(model: ir.Model, module: nn.Module, arguments: Arguments) -> bool:
    """Whether a graph computes what a module computes, for one set of random inputs."""
    args, kwargs = arguments
    random = torch.Generator().manual_seed(0)
    drawn = [_drawn(tensor, random) for tensor in (*args, *kwargs.values())]
    names = [str(value.name) for value in model.graph.inputs]
    feed = {name: TorchTensor(tensor.cpu()).numpy() for name, tensor in zip(names, drawn, strict=True)}
    found = OnnxRuntime().session(model).run(feed)
    with one_thread():
        wanted = forward(module, drawn[: len(args)], dict(zip(kwargs, drawn[len(args) :], strict=True)))
    return len(found) == len(wanted) and all(map(_close, found, wanted))


def _drawn(tensor: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    return torch.randn(tensor.shape, generator=random).to(tensor)


def _close(found: np.ndarray, wanted: torch.Tensor) -> bool:
    array = TorchTensor(wanted.detach().cpu()).numpy()
    if found.shape != array.shape or found.dtype != array.dtype:
        return False
    if array.dtype.kind in "biu":
        return bool((found == array).all())
    a, b = found.astype(np.float64), array.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True):
        return False
    apart, largest = np.abs(a - b)[finite].max(initial=0), np.abs(b)[finite].max(initial=0)
    return bool(apart <= TOLERANCE.get(array.dtype.itemsize, 1e-4) * largest)
