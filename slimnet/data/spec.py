"""What `--data` says: where the samples come from, and how they are split, scaled and augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from slimnet.common.errors import BadInput

FORMS = (
    "digits, mnist:DIR, fashion-mnist:DIR, cifar10:DIR, cifar100:DIR, imagefolder:DIR, "
    "FILE.npz or FILE.py:CALLABLE, each with settings as in ?val=5000&limit=10000"
)
#: Names of what takes a folder.
FOLDERS = ("mnist", "fashion-mnist", "cifar10", "cifar100", "imagefolder")
AUGMENTATIONS = ("none", "shift", "crop-flip")
#: Mean and standard deviation of red, green and blue, scaled to [0, 1].
STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}

Statistics = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Spec:
    """A `--data` option, taken apart; None where it says nothing.

    Attributes:
        text: the option as it was typed.
        kind: "digits", "npz", "py", or one of FOLDERS.
        place: the folder, the file, or FILE.py:CALLABLE.
        val: number of samples to carve out of train for validation.
        limit: number of samples of train to use.
        normalize: "none", a name in STATISTICS, or "MEAN,.../STD,...".
        augment: one of AUGMENTATIONS.
        size: pictures are cut and scaled to size x size pixels.
        download: fetch what is not there.
    """

    text: str
    kind: str
    place: str
    val: int | None = None
    limit: int | None = None
    normalize: str | None = None
    augment: str | None = None
    size: int | None = None
    download: bool = False

    def wrong(self, what: str) -> BadInput:
        """The error that says what is wrong with it."""
        return BadInput(f"--data {self.text}: {what}")

    def statistics(self, default: str, sample: tuple[int, ...]) -> Statistics | None:
        """Mean and standard deviation, float32 [channels], for samples of this shape; None for no normalisation.

        Raises:
            BadInput: they are no numbers, or of another number of channels.
        """
        name = self.normalize or default
        if name == "none":
            return None
        mean, std = STATISTICS[name] if name in STATISTICS else _two_lists(name)
        channels = sample[0] if sample else 1
        if not mean or len(mean) != len(std) or len(mean) not in (1, channels) or not _usable(mean, std):
            raise self.wrong(
                f"normalize={name} does not fit {channels} channels; use none, {', '.join(STATISTICS)}, or means and "
                "deviations above 0 as in 0.5,0.5,0.5/0.2,0.2,0.2"
            )
        return np.resize(np.array(mean, np.float32), channels), np.resize(np.array(std, np.float32), channels)


def parse(text: str) -> Spec:
    """Take a `--data` option apart.

    Raises:
        BadInput: its form, or one of its settings, is not known.
    """
    where, _, query = text.partition("?")
    kind, _, place = where.partition(":")
    file, _, name = where.rpartition(":")
    if where == "digits":
        kind, place = where, where
    elif where.endswith(".npz"):
        kind, place = "npz", where
    elif file.endswith(".py") and name:
        kind, place = "py", where
    elif kind not in FOLDERS or not place:
        raise BadInput(f"--data {text}: is not understood; use {FORMS}")
    return Spec(text, kind, place, **_settings(text, kind, query))


def _settings(text: str, kind: str, query: str) -> Mapping[str, Any]:
    known: dict[str, Callable[[str], Any]] = {
        "val": lambda value: _whole(value, 0),
        "limit": lambda value: _whole(value, 1),
        "normalize": str,
        "augment": _augmentation,
    }
    if kind == "imagefolder":
        known["size"] = lambda value: _whole(value, 1)
    elif kind in FOLDERS:
        known["download"] = lambda value: {"0": False, "1": True}[value]
    found: dict[str, Any] = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in known or key in found:
            state = "is given twice" if key in found else "is not known here"
            raise BadInput(f"--data {text}: {key!r} {state}; the settings of {kind} are {', '.join(known)}")
        try:
            found[key] = known[key](value)
        except (ValueError, KeyError):
            raise BadInput(f"--data {text}: {key} cannot be {value!r}; use {_ALLOWED[key]}") from None
    return found


_ALLOWED = {
    "val": "a number of samples, 0 for none",
    "limit": "a number of samples",
    "augment": ", ".join(AUGMENTATIONS),
    "size": "a number of pixels",
    "download": "0 or 1",
}


def _whole(value: str, low: int) -> int:
    if (number := int(value)) < low:
        raise ValueError
    return number


def _augmentation(value: str) -> str:
    if value not in AUGMENTATIONS:
        raise ValueError
    return value


def _two_lists(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The numbers before and after the slash; nothing where that is not what they are."""
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
    except ValueError:
        return (), ()
    return mean, std


def _usable(mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    return bool(np.isfinite((*mean, *std)).all() and min(std) > 0)
