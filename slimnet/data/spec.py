"""What `--data` says: where the samples come from, and how they are split, scaled and augmented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.data import sources
from slimnet.data.source import Setting, Source, one_of, whole

AUGMENTATIONS = ("none", "shift", "crop-flip")
#: Means and standard deviations, one for every channel.
Lists = tuple[tuple[float, ...], tuple[float, ...]]
#: Mean and standard deviation of red, green and blue, scaled to [0, 1].
STATISTICS: Mapping[str, Lists] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
#: The settings that every source knows.
_SETTINGS = {
    "val": Setting(whole(0), "a number of samples, 0 for none"),
    "limit": Setting(whole(1), "a number of samples"),
    "normalize": Setting(str, "none, imagenet, cifar, or means and deviations"),
    "augment": Setting(one_of({name: name for name in AUGMENTATIONS}), ", ".join(AUGMENTATIONS)),
}

Statistics = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Spec:
    """A `--data` option, taken apart; None where it says nothing.

    Attributes:
        text: The option as it was typed.
        source: The source that it names.
        place: The folder, the file, or FILE.py:CALLABLE, where the data lie.
        val: The number of samples to carve out of train for validation.
        limit: The number of samples of train to use.
        normalize: "none", a name in STATISTICS, or "MEAN,.../STD,...".
        augment: One of AUGMENTATIONS.
        own: The settings that only this source knows, by name, as far as they were given.
    """

    text: str
    source: Source
    place: str
    val: int | None = None
    limit: int | None = None
    normalize: str | None = None
    augment: str | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    def wrong(self, what: str) -> BadInput:
        """The error that says what is wrong with the option."""
        return BadInput(f"`data` {self.text}: {what}")

    def statistics(self, sample: tuple[int, ...]) -> Statistics | None:
        """Mean and standard deviation, float32 [channels], for samples of this shape; None for no normalisation.

        Raises:
            BadInput: They are no numbers, or of another number of channels.
        """
        try:
            return statistics(self.normalize or self.source.normalize, sample[0] if sample else 1)
        except ValueError as error:
            raise self.wrong(str(error)) from None


def statistics(name: str, channels: int, known: Mapping[str, Lists] = STATISTICS) -> Statistics | None:
    """Mean and standard deviation, float32 [channels], by a name in `known` or as "MEAN,.../STD,..."; None for "none".

    Raises:
        ValueError: They are no numbers, or of another number of channels; the message says what to use.
    """
    if name == "none":
        return None
    mean, std = known[name] if name in known else _two_lists(name)
    if not mean or len(mean) != len(std) or len(mean) not in (1, channels) or not _usable(mean, std):
        raise ValueError(
            f"normalize={name} does not fit {channels} channels; use none, {', '.join(known)}, or means and "
            "deviations above 0 as in 0.5,0.5,0.5/0.2,0.2,0.2"
        )
    return np.resize(np.array(mean, np.float32), channels), np.resize(np.array(std, np.float32), channels)


def parse(text: str) -> Spec:
    """Take a `--data` option apart.

    Raises:
        BadInput: Its form, or one of its settings, is not known.
    """
    where, _, query = text.partition("?")
    source, place = sources.find(where)
    found = read_settings(query, _SETTINGS | dict(source.settings), f"`data` {text}", source.name)
    own = {name: found.pop(name) for name in source.settings if name in found}
    return Spec(text, source, place, **found, own=own)


def read_settings(query: str, known: Mapping[str, Setting], where: str, owner: str) -> dict[str, Any]:
    """The values of the settings behind the question mark.

    Args:
        query: What stands there, such as "val=5000&limit=10000".
        known: The settings that there are, by name.
        where: How messages begin, such as "`data` digits?limit=10".
        owner: What messages say the settings belong to.

    Raises:
        BadInput: A setting is not known, given twice, or cannot have that value.
    """
    found: dict[str, Any] = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in known or key in found:
            state = "is given twice" if key in found else "is not known here"
            raise BadInput(f"{where}: {key!r} {state}; the settings of {owner} are {', '.join(known)}")
        try:
            found[key] = known[key].parse(value)
        except ValueError:
            raise BadInput(f"{where}: {key} cannot be {value!r}; use {known[key].allowed}") from None
    return found


def _two_lists(text: str) -> Lists:
    """The numbers before and after the slash; nothing where that is not what they are."""
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        return (), ()
    return mean, std


def _usable(mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    return bool(np.isfinite((*mean, *std)).all() and min(std) > 0)
