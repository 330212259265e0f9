"""What `--calib` says: where the inputs come from, how many are taken, and how their values are scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.data.source import Setting, one_of, whole
from slimnet.data.spec import STATISTICS, Lists, read_settings

#: One sample: the value of every input by name, without the batch axis.
Sample = Mapping[str, np.ndarray]
#: The number of samples where the option does not say one.
LIMIT = 512
#: Mean and standard deviation of red, green and blue, scaled to [0, 1]: those of `--data`, and of other families.
KNOWN: Mapping[str, Lists] = {
    **STATISTICS,
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def _seed(text: str) -> int:
    if (number := whole(0)(text)) >= 1 << 32:
        raise ValueError(text)
    return number


_NUMBERS = "numbers, one for each channel, as in 0.5,0.5,0.5"
#: The settings that say which samples are taken.
COUNTS = {
    "limit": Setting(whole(1), "a number of samples"),
    "seed": Setting(_seed, "a whole number below 2**32"),
}
#: The settings that say what is done with their values.
VALUES = {
    "scale": Setting(one_of({"1": 1, "255": 255}), "1 for pixels in 0..1, or 255 for pixels in 0..255"),
    "normalize": Setting(str, f"none, {', '.join(KNOWN)}, or means and deviations"),
    "mean": Setting(str, _NUMBERS),
    "std": Setting(str, _NUMBERS),
}


@dataclass(frozen=True)
class Option:
    """A `--calib` option, taken apart.

    Attributes:
        text: The option as it was typed.
        place: What stands before the question mark.
        query: What stands behind it.
        own: The settings by name, as far as they were given.
    """

    text: str
    place: str
    query: str
    own: Mapping[str, Any]

    def wrong(self, what: str) -> BadInput:
        """The error that says what is wrong with the option."""
        return BadInput(f"{self.where}: {what}")

    @property
    def where(self) -> str:
        """How messages about it begin."""
        return f"`calib` {self.text}"

    @property
    def limit(self) -> int:
        """The most samples to take."""
        return int(self.own.get("limit", LIMIT))

    def chosen(self, count: int) -> np.ndarray:
        """Which of `count` samples are taken: evenly spread, for many sets are sorted, or at random by the seed.

        Returns:
            Indices, int64 [at most `limit`]. The legacy generator draws them, whose stream never changes.
        """
        taken = min(self.limit, count)
        if "seed" in self.own:
            return np.random.RandomState(self.own["seed"]).permutation(count)[:taken]
        return np.arange(taken) * count // max(taken, 1)


def read_option(text: str, settings: Mapping[str, Setting], form: str) -> Option:
    """Take an option apart, by the settings that its form knows.

    Raises:
        BadInput: A setting is not known, or cannot have its value.
    """
    place, _, query = text.partition("?")
    return Option(text, place, query, read_settings(query, settings, f"`calib` {text}", form))


@dataclass(frozen=True)
class Rows(Sequence[Sample]):
    """Arrays by input name that look like a sequence of samples; of a file on disk, only those are read.

    Attributes:
        arrays: The arrays, each [n, ...].
        taken: Which of the n samples these are, int64 [len].
    """

    arrays: Mapping[str, np.ndarray]
    taken: np.ndarray

    def __len__(self) -> int:
        return len(self.taken)

    def __getitem__(self, k: Any) -> Any:
        return {name: np.asarray(array[self.taken[k]]) for name, array in self.arrays.items()}
