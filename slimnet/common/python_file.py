"""Run a Python file that the user has named, such as FILE.py:NAME for something in it."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, existing_file


def is_spec(text: str) -> bool:
    """Whether a text has the form FILE.py:NAME."""
    file, name = split(text)
    return file.endswith(".py") and bool(name)


def split(text: str) -> tuple[str, str]:
    """FILE.py and NAME of FILE.py:NAME."""
    file, _, name = text.rpartition(":")
    return file, name


def executed(file: Path) -> ModuleType:
    """Run a Python file as a module of a private name, so that it hides no installed package.

    Raises:
        BadInput: The file fails.
    """
    name = "_slimnet_arch_" + re.sub(r"\W", "_", str(file.absolute()))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a .py file always has a spec"
    assert spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise BadInput(f"{file}: cannot be imported: {type(error).__name__}: {essence(error)}") from error
    return module


@contextmanager
def function(place: str, wrong: Callable[[str], BadInput]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A context with the name and the function of FILE.py:NAME, in which it may import what lies beside it.

    Raises:
        BadInput: The file is missing or fails, or `wrong`, of what is wrong, where it has no such function.
    """
    where, name = split(place)
    file = existing_file(Path(where).expanduser())
    with importable(file.absolute().parent):
        found = getattr(executed(file), name, None)
        if not callable(found):
            raise wrong(f"{file} has no function {name}")
        yield name, found


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let imports look into a folder, as they do for a script that lies there."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
