"""What decides the graph that torch exports of a module, as one number: all but the values of its weights.

Two modules of one identity have the same classes, of the same source, the same plain attributes, and parameters and
buffers of the same names, shapes and types. What Python code can branch on is compared by value as well: integers,
booleans and single numbers among the tensors, and tensors that are plain attributes, which the exporter writes into the
graph. A module with anything that cannot be compared so has no identity.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.metadata
import marshal
import os
import platform
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimnet.common.version import __version__
from slimnet.io.torch_forward import Arguments
from slimnet.io.torch_module import COUNTERS

#: What takes part in exporting, besides torch.
_EXPORTERS = ("onnx", "onnx-ir", "onnxscript", "numpy")
#: Attributes of every module that are looked at in their own way.
_TENSORS = ("_parameters", "_buffers", "_modules")
#: Those of them that hold what is called around `forward`.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
#: Folders of code that its version or its own files stand for: Python's, what is installed, and slimnet.
_NOT_USERS = tuple(
    f"{place}{os.sep}"
    for path in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),
    )
    for place in (Path(path), Path(path).resolve())
)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout, range, slice)


class Unknown(Exception):
    """A module holds something of which it cannot be said whether another has the same."""


def identity(module: nn.Module, arguments: Arguments) -> str:
    """The number of a module that is called with such arguments, as hexadecimal digits. Raises Unknown."""
    if torch.is_autocast_enabled() or torch.is_autocast_enabled("cpu"):
        raise Unknown("it is exported under autocast")
    digest = hashlib.sha256()
    described = _Described(module)
    for part in (*_surroundings(), *described.module(), *described.arguments(arguments), *described.sources()):
        digest.update(part.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _surroundings() -> Iterator[str]:
    """Versions and settings that an export depends on."""
    yield f"slimnet {__version__}, Python {platform.python_version()}, torch {torch.__version__}"
    yield from (f"{name} {importlib.metadata.version(name)}" for name in _EXPORTERS)
    yield from (_file(path) for path in sorted(Path(__file__).parent.glob("*.py")))
    yield f"{torch.get_default_dtype()} {torch.get_default_device()} {torch.backends.mha.get_fastpath_enabled()}"
    kernels = torch.backends.cuda
    yield f"{kernels.flash_sdp_enabled()} {kernels.mem_efficient_sdp_enabled()} {kernels.math_sdp_enabled()}"


class _Described:
    """Descriptions of a module and everything in it; what is shared is named after where it was met first."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._names = {id(child): name for name, child in module.named_modules()}
        self._met: dict[int, int] = {}
        self._homes: set[str] = set()

    def module(self) -> Iterator[str]:
        """A line for every module, every plain attribute, and every parameter and buffer."""
        for name, child in self._module.named_modules(remove_duplicate=False):
            if isinstance(child, torch.jit.ScriptModule):
                raise Unknown(f"{name} is TorchScript")
            yield f"module {name}: {self._names[id(child)]} {self._class(type(child))}"
            for key, value in vars(child).items():
                if key == "forward" or (key in _HOOKS and value):
                    raise Unknown(f"{name} has {key} of its own")
                if key not in _TENSORS and "_hooks" not in key:
                    yield f"{key} {self._value(value)}"
            parameters = child.named_parameters(recurse=False, remove_duplicate=False)
            buffers = child.named_buffers(recurse=False, remove_duplicate=False)
            for key, tensor in (*parameters, *buffers):
                yield f"{key} {self._weight(key, tensor)}"

    def arguments(self, arguments: Arguments) -> Iterator[str]:
        """A line for every argument of `forward`."""
        args, kwargs = arguments
        for name, tensor in (*enumerate(args), *kwargs.items()):
            yield f"argument {name} {_form(tensor)}"

    def sources(self) -> Iterator[str]:
        """A line for every file with code that was met, and for all code that is not installed: it may be called."""
        users = {name for name, module in sys.modules.items() if _is_users(getattr(module, "__file__", None))}
        for name in sorted(self._homes | users):
            package = name.partition(".")[0]
            if package == "torch" or name in sys.builtin_module_names:
                continue
            path = getattr(sys.modules.get(name), "__file__", None)
            if path is None:
                raise Unknown(f"the source of {name} lies in no file")
            yield f"{name} {_file(Path(path))} {getattr(sys.modules.get(package), '__version__', '')}"

    def _class(self, kind: type) -> str:
        """The names of a class and its bases, with the code of `forward`, whoever has put it there."""
        for base in kind.__mro__[:-1]:
            self._homes.add(base.__module__)
        code = getattr(getattr(kind, "forward", None), "__code__", None)
        return f"{_names(kind.__mro__)} {hashlib.sha256(marshal.dumps(code)).hexdigest() if code else None}"

    def _weight(self, key: str, tensor: torch.Tensor) -> str:
        form = f"{self._number(tensor)} {type(tensor).__name__} {_form(tensor)} {tensor.requires_grad}"
        valued = tensor.numel() == 1 or not (tensor.is_floating_point() or tensor.is_complex())
        return f"{form} {_content(tensor)}" if valued and key not in COUNTERS else form

    def _number(self, value: object) -> int:
        """The same for the same object, in the order in which they are met."""
        return self._met.setdefault(id(value), len(self._met))

    def _value(self, value: Any) -> str:
        """A plain attribute, in words. Raises Unknown for what could be anything."""
        if isinstance(value, enum.Enum):
            return f"{self._value(type(value))} {value.name}"
        if type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, torch.Tensor):
            return f"{self._number(value)} {_form(value)} {_content(value)}"
        if isinstance(value, nn.Module):
            if id(value) not in self._names:
                raise Unknown(f"there is a {type(value).__name__} that is no submodule")
            return f"module {self._names[id(value)]}"
        if isinstance(value, type | types.BuiltinFunctionType):
            self._homes.add(str(value.__module__))
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, types.FunctionType):
            if value.__closure__:
                raise Unknown(f"{value.__qualname__} has variables of its own")
            self._homes.add(value.__module__)
            return (
                f"{value.__module__}.{value.__qualname__} {hashlib.sha256(marshal.dumps(value.__code__)).hexdigest()}"
            )
        if id(value) in self._met:
            return f"again {self._number(value)}"
        self._number(value)
        if isinstance(value, functools.partial):
            return f"partial {self._value(value.func)} {self._value(value.args)} {self._value(value.keywords)}"
        if isinstance(value, dict):
            return f"{type(value).__name__} {[(self._value(k), self._value(v)) for k, v in value.items()]}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__} {[self._value(item) for item in value]}"
        if isinstance(value, set | frozenset):
            return f"{type(value).__name__} {sorted(self._value(item) for item in value)}"
        if hasattr(value, "__dict__") and not hasattr(type(value), "__slots__") and not callable(value):
            return f"{self._class(type(value))} {self._value(vars(value))}"
        raise Unknown(f"a {type(value).__name__} cannot be compared")


def _names(kinds: tuple[type, ...]) -> str:
    return " ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)


def _form(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.stride()} {tensor.dtype} {tensor.device.type}"


def _content(tensor: torch.Tensor) -> str:
    """The values of a tensor, as a number."""
    array = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(array.tobytes()).hexdigest()


def _file(path: Path) -> str:
    """The content of a file, as a number."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise Unknown(f"{path} cannot be read") from error


def _is_users(file: str | None) -> bool:
    """Whether the file of a module is neither installed nor slimnet's own."""
    if not file or file.startswith(_NOT_USERS):
        return False
    resolved = Path(file).resolve()
    return resolved.is_file() and not str(resolved).startswith(_NOT_USERS)
