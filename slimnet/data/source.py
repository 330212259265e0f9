"""What a source of data is: one form of the `--data` option, with all that is particular to it.

Nothing heavy is imported here or by the modules of `slimnet.data.sources` as they are loaded, because help texts are
made from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slimnet.data.samples import Samples
    from slimnet.data.spec import Spec


@dataclass(frozen=True)
class Setting:
    """A setting that follows the question mark of a `--data` option.

    Attributes:
        parse: From the text to the value; it raises ValueError for a text that is none.
        allowed: What the value may be, as a message says it: "a number of samples".
    """

    parse: Callable[[str], Any]
    allowed: str


def whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` up."""

    def parse(text: str) -> int:
        if (number := int(text)) < least:
            raise ValueError(text)
        return number

    return parse


def one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    """A parser of the keys of a mapping to its values."""

    def parse(text: str) -> Any:
        if text not in choices:
            raise ValueError(text)
        return choices[text]

    return parse


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of data.

    Attributes:
        name: What messages call it, and for sources from outside what the option begins with.
        form: How the option is written, with words in capitals for what the user fills in: "mnist:DIR", "FILE.npz".
        read: From the option, taken apart, to the splits as they lie there: "test", and "train" and "val" where there
            are such.
        normalize, augment: What holds where the option says nothing of normalisation and augmentation.
        settings: The settings that only this source knows, by name; their values are in `Spec.own`.
    """

    name: str
    form: str
    read: Callable[[Spec], Mapping[str, Samples]]
    normalize: str = "none"
    augment: str = "none"
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def place(self, option: str) -> str | None:
        """Where the data lie, by an option without its settings; None where the option has another form."""
        pattern = "".join(".+" if part.isupper() else re.escape(part) for part in re.split("([A-Z]+)", self.form))
        if not re.fullmatch(pattern, option, re.DOTALL):
            return None
        fixed = re.split("[A-Z]", self.form)[0]
        return option.removeprefix(fixed) or option
