"""From what a user calls a method, a name or FILE.py:CLASS, to its class and to an instance.

Only what users type (`--method`, `--picks`, a recipe, an argument in Python) comes here, because a file that is named
runs. What plans, checkpoints and reports record about methods is text, and is never looked up.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from slimnet.common import python_file
from slimnet.common.errors import BadInput
from slimnet.common.files import essence, existing_file
from slimnet.methods import registry
from slimnet.methods.base import NEEDS, DataMethod, Method, fields, hyperparameters
from slimnet.methods.registry import Kind

#: Classes that `register` has added.
_REGISTERED: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that makes a method of one's own available under a name, for the process it runs in."""

    def add(cls: type[Method]) -> type[Method]:
        _REGISTERED[name] = cls
        summary = (cls.__doc__ or "").strip().partition("\n")[0]
        registry.add(registry.Entry(name, kind_of(cls), summary))
        return cls

    return add


def create(name: str, /, *context: Any, **options: Any) -> Method:
    """A method with some of its hyper-parameters set.

    Args:
        name: The name of a method, or FILE.py:CLASS.
        context: What a training method is bound to (see `TrainingMethod`).
        options: Hyper-parameters by name.

    Raises:
        BadInput: There is no such method, it has no such hyper-parameter, or its constructor fails.
    """
    cls = find(name)
    known = hyperparameters(cls)
    for option, value in options.items():
        if option not in known:
            raise BadInput(f"method {name!r} has no option {option!r}; it takes: {', '.join(known) or 'none'}")
        kinds = _types(getattr(cls, option, None), value)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadInput(f"method {name!r}: option {option}={value} is not of type {kinds[0].__name__}")
    if not python_file.is_spec(name):
        return cls(*context, **options)
    try:
        return cls(*context, **options)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"method {name!r}: making one fails with {type(error).__name__}: {essence(error)}; "
            f"its options are: {', '.join(known) or 'none'}"
        ) from error


def _types(default: Any, value: Any) -> tuple[type, ...]:
    """What may be given where a hyper-parameter has this default: anything where it is None, or there is none."""
    if default is None:
        return (type(value),)
    return (float, int) if isinstance(default, float) else (type(default),)


def is_training(name: str) -> bool:
    """Whether a method acts while the network trains. Raises BadInput for an unknown one."""
    return kind(name).trains


def kind(name: str) -> Kind:
    """What a method ranks by. Raises BadInput for an unknown one."""
    entry = registry.entry_of(name)
    return kind_of(find(name)) if entry is None else entry.kind


def kind_of(cls: type[Method]) -> Kind:
    """What methods of a class rank by."""
    if issubclass(cls, DataMethod):
        return Kind.DATA
    if len(hyperparameters(cls)) == len(fields(cls)):
        return Kind.WEIGHTS
    from slimnet.methods.elementwise import ElementWise  # bound to tensors, so torch is there

    return Kind.SINGLE if issubclass(cls, ElementWise) else Kind.TRAINING


def find(name: str) -> type[Method]:
    """The class of a method; the file of FILE.py:CLASS runs when it is first asked for, and when it has changed.

    Raises:
        BadInput: There is no such method, file or class, or the class is no complete method.
    """
    if python_file.is_spec(name):
        file = existing_file(Path(python_file.split(name)[0]).expanduser())
        return _from_file(name, file.absolute(), file.stat().st_mtime_ns)
    entry = registry.entry_of(name)
    if entry is None:
        choices = ", ".join(registry.names())
        raise BadInput(f"method {name!r} is not known; choose one of: {choices}, or FILE.py:CLASS")
    if entry.name in _REGISTERED:
        return _REGISTERED[entry.name]
    module, _, cls = entry.home.partition(".")
    found: type[Method] = getattr(importlib.import_module(f"slimnet.methods.{module}"), cls)
    return found


@lru_cache
def _from_file(spec: str, file: Path, changed: int) -> type[Method]:
    """The method class that FILE.py:CLASS names; `changed` is when the file was, in ns, so that an edit is seen."""
    name = python_file.split(spec)[1]
    with python_file.importable(file.parent):
        module = python_file.executed(file)
    own = {key: value for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, Method)}
    if name not in vars(module):
        there = [key for key, value in own.items() if value.__module__ == module.__name__]
        raise BadInput(f"method {spec!r}: {file.name} has no class {name}; it has: {', '.join(there) or 'no methods'}")
    if name not in own:
        raise BadInput(f"method {spec!r}: {name} is no subclass of slimnet.methods.Method; make it one")
    _check_complete(spec, own[name])
    return own[name]


def _check_complete(spec: str, cls: type[Method]) -> None:
    """Refuse a class of which no usable method can be made."""
    if inspect.isabstract(cls):
        lacking = " and ".join(f"{name}()" for name in sorted(cls.__abstractmethods__))
        raise BadInput(f"method {spec!r}: {cls.__name__} lacks {lacking}; define it")
    if issubclass(cls, DataMethod) and getattr(cls, "needs", None) not in NEEDS:
        raise BadInput(f"method {spec!r}: {cls.__name__}.needs must be one of: {', '.join(NEEDS)}")
    if issubclass(cls, DataMethod) and is_dataclass(cls) and cls.__dataclass_params__.frozen:
        raise BadInput(f"method {spec!r}: {cls.__name__} is frozen, but is told what it needs later; leave frozen out")
