"""All sources of data: every module here adds its own, and installed distributions may add more.

To add a source, write a module with a tuple `SOURCES` into this folder. It is found by itself, also by help texts, so
it imports numpy and the like only inside its functions. A distribution of one's own names a `Source` in its
pyproject.toml; what stands before the equals sign is what the option begins with::

    [project.entry-points."slimnet.data"]
    speech = "speech_data:SOURCE"

and in speech_data.py, for `--data speech:DIR`::

    import numpy as np
    from pathlib import Path
    from slimnet.data.samples import labelled
    from slimnet.data.source import Source

    def read(spec):
        folder = Path(spec.place)
        arrays = {name: np.load(folder / f"{name}.npz") for name in ("train", "test")}
        return {name: labelled(found["x"], found["y"], f"--data {spec.text}") for name, found in arrays.items()}

    SOURCE = Source(name="speech", form="speech:DIR", read=read)
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

from slimnet.common.entry_points import foreign, installed
from slimnet.common.errors import BadInput
from slimnet.data.source import Source

GROUP = "slimnet.data"


@cache
def built_in() -> tuple[Source, ...]:
    """The sources of the modules in this folder: those that need no place first, then folders, then files."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [source for name in names for source in importlib.import_module(f"{__name__}.{name}").SOURCES]
    return tuple(sorted(found, key=lambda source: ("FILE" in source.form, "DIR" in source.form)))


def forms() -> str:
    """How the option may be written for the built-in sources, as help texts say it."""
    *most, last = (source.form for source in built_in())
    return f"{', '.join(most)} or {last}"


def find(option: str) -> tuple[Source, str]:
    """The source that an option without its settings names, and where in it the data lie.

    Raises:
        BadInput: No source has such a form, or one from outside cannot be loaded.
    """
    for source in _candidates(option):
        if (place := source.place(option)) is not None:
            return source, place
    more = ", ".join(sorted(installed(GROUP).names))
    raise BadInput(
        f"`data` {option}: is not understood; use {forms()}, each with settings as in ?val=5000&limit=10000"
        + (f"; other packages add {more}" if more else "")
    )


def _candidates(option: str) -> Iterator[Source]:
    """The built-in sources, and those from outside that are called by their name; no other foreign code is loaded."""
    yield from built_in()
    for entry in installed(GROUP).select(name=option.partition(":")[0]):
        with foreign(entry, f"`data` {option}"):
            source = entry.load()
        if not isinstance(source, Source):
            raise BadInput(f"`data` {option}: {entry.value} is no slimnet.data.source.Source; make it one")
        yield source
