"""Fields of configs that are also options of the command line and keys of recipes: each is declared once, here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from slimnet.common.errors import BadInput

T = TypeVar("T")
_KEY = "setting"

#: The largest count that makes sense anywhere: of runs, epochs, channels; what is larger was mistyped.
LARGEST_COUNT = 1_000_000
#: The most seconds that anything is measured for.
DAY = 86_400
#: The largest seed that numpy and torch take alike.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the command line and recipes have to know of a field beside its name, type and default.

    Attributes:
        help: One sentence on what the field is.
        kind: The type of the field's option; None leaves the field off the command line.
        option: The names of the option, such as ("--out", "-o"); made from the field's name if empty.
        read: A function that makes the field's value of what was typed; None takes it as it is.
        low, high: The limits of a number, both included.
        argument: Whether the value is given without the name of an option.
        flags: Options without a value, each with the value that it stands for and its help, in place of one option.
        phase: The options that set parts of a phase of training, in place of one option.
        keys: The types that the field may have in a recipe; none where a recipe does not have it.
    """

    help: str
    kind: Any = None
    option: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None
    low: float | None = None
    high: float | None = None
    argument: bool = False
    flags: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    phase: tuple[PhaseOption, ...] = ()
    keys: tuple[type, ...] = ()


@dataclass(frozen=True)
class PhaseOption:
    """An option for one setting of a phase of training.

    Attributes:
        setting: The name of the setting.
        kind: The type of the setting.
        help: One sentence on what the setting is.
        option: The name of the option; made from that of the setting if empty.
        low, high: The limits of the setting, both included.
        default: The default that the help shows; the phase has it anyway.
    """

    setting: str
    kind: Any
    help: str
    option: str = ""
    low: float | None = None
    high: float | None = None
    default: Any = None

    @property
    def name(self) -> str:
        """Name of the option."""
        return self.option or f"--{self.setting.replace('_', '-')}"


def setting(default: Any, help: str, **more: Any) -> Any:
    """A field of a config with its default, or what makes it; `more` are attributes of `Setting`."""
    metadata = {_KEY: Setting(help=help, **more)}
    return (
        field(default_factory=default, metadata=metadata)
        if default is dict
        else field(default=default, metadata=metadata)
    )


def settings_of(config: type) -> dict[str, tuple[Setting, Any]]:
    """The settings of a config by the name of the field, with their defaults; a config's own before inherited ones."""
    own = config.__annotations__
    fields = sorted(dataclasses.fields(config), key=lambda f: f.name not in own)
    return {f.name: (f.metadata[_KEY], f.default) for f in fields if _KEY in f.metadata}


def documented(config: type[T]) -> type[T]:
    """Class decorator: adds what each setting is to the docstring of a config."""
    lines = [f"        {name}: {setting.help}" for name, (setting, _) in settings_of(config).items()]
    config.__doc__ = "\n".join([f"{(config.__doc__ or '').rstrip()}\n\n    Attributes:", *lines, "    "])
    return config


class Checked:
    """Base of configs: what a setting does not allow is refused when the config is made, before any work."""

    def __post_init__(self) -> None:
        for name, (setting, default) in settings_of(type(self)).items():
            value = getattr(self, name)
            if (wanted := _wanted(setting, default, value)) is not None:
                raise BadInput(f"`{name}` {value!r}: {wanted}")


def _wanted(setting: Setting, default: Any, value: Any) -> str | None:
    """What to give instead of a value; None where it may be what the setting asks for."""
    if value is None and default is None:
        return None
    if setting.flags:
        choices = [repr(default), *(repr(stands_for) for stands_for, _ in setting.flags.values())]
        return None if repr(value) in choices else f"give {', '.join(choices[:-1])} or {choices[-1]}"
    if setting.kind is bool:
        return None if isinstance(value, bool) else "give True or False"
    if setting.kind in (int, float):
        low = -math.inf if setting.low is None else setting.low
        high = math.inf if setting.high is None else setting.high
        kinds = (int,) if setting.kind is int else (int, float)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return None if number and low <= value <= high else f"give a number from {low:g} to {high:g}"
    if setting.kind is Path:
        return None if isinstance(value, str | Path) else "give a path"
    if setting.keys == (str,):
        return None if isinstance(value, str) else "give a text"
    return "give a list" if setting.keys == (list,) and isinstance(value, str) else None
