"""Samples as they came become values that a network is fed with, when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slimnet.data.calib.network import Port, Takes
from slimnet.data.calib.option import KNOWN, Option, Sample
from slimnet.data.spec import Statistics, statistics


@dataclass(frozen=True)
class Scaling:
    """What becomes of the values of inputs that take floats.

    Attributes:
        pixels: What bytes are divided by: 255 brings them into 0..1 as `--data` does, 1 leaves them in 0..255.
        mean, std: What is subtracted and divided by then, float32, shaped to fit one sample; None for neither.
        name: How the option names those.
    """

    pixels: int = 255
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    name: str = "none"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Samples [k, ...] as float32 where they were bytes or are normalised, else as they are."""
        if values.dtype == np.uint8:
            values = values.astype(np.float32) / np.float32(self.pixels)
        if self.mean is not None and self.std is not None:
            values = (values.astype(np.float32) - self.mean) / self.std
        return values

    def __str__(self) -> str:
        return f"in 0..{255 // self.pixels}, normalize={self.name}"


def scaling(
    option: Option, net: Takes, last: bool, normalize: str = "none", kept: bool = False, bgr: bool = False
) -> Scaling:
    """What the settings scale, normalize, mean and std ask for.

    Args:
        option: The option.
        net: What the network takes; normalisation is for a single input of floats.
        last: Whether the channels are the last axis of a sample; else they are the first.
        normalize, kept: What holds where the option says nothing of normalisation, or whether bytes stay in 0..255.
        bgr: Whether the channels are blue, green and red. Statistics with a name are turned round for them; numbers
            that the option gives are in the order of the network's channels.

    Raises:
        BadInput: The settings exclude each other, or do not fit the network.
    """
    kept = option.own["scale"] == 255 if "scale" in option.own else kept
    name = _normalize(option, normalize)
    if name == "none":
        return Scaling(1 if kept else 255)
    if net.sole is None or net.sole[1].kind != "floats":
        raise option.wrong(
            f"normalize={name} is for one input of floats, and {net.name} takes {net.listed}; leave it out"
        )
    port = net.sole[1]
    shape = port.shape[int(port.batched) :]
    try:
        found = statistics(name, shape[-1 if last else 0] if shape else 1, KNOWN)
    except ValueError as error:
        raise option.wrong(str(error)) from None
    assert found is not None, "there is normalisation"
    if name in KNOWN:
        found = _of_pixels(found, bgr, kept)
    mean, std = (part.reshape(-1, *(1,) * (0 if last else max(len(shape) - 1, 0))) for part in found)
    return Scaling(1 if kept else 255, mean, std, name)


def _of_pixels(found: Statistics, bgr: bool, kept: bool) -> Statistics:
    """Statistics of red, green and blue in 0..1 as those of the pixels that the network is given."""
    order, unit = slice(None, None, -1 if bgr else 1), np.float32(255 if kept else 1)
    mean, std = found
    return mean[order] * unit, std[order] * unit


def _normalize(option: Option, default: str) -> str:
    """The normalisation that the option names, with mean and std as one text."""
    mean, std = option.own.get("mean"), option.own.get("std")
    if mean is None and std is None:
        return str(option.own.get("normalize", default))
    if "normalize" in option.own:
        raise option.wrong("gives normalize, and mean or std as well; give one of them")
    return f"{mean or _repeated('0', std)}/{std or _repeated('1', mean)}"


def _repeated(number: str, like: str | None) -> str:
    return ",".join(number for _ in (like or "").split(","))


@dataclass(frozen=True)
class Feeds(Sequence[Mapping[str, np.ndarray]]):
    """What a network is fed with, one entry for each run, scaled, converted and checked when it is asked for.

    Attributes:
        samples: The samples as they came, which `Takes.check` has let pass.
        net: What the network takes.
        option: The option that they came by, for messages.
        scaling: What becomes of inputs that take floats.
        bounds: For integer inputs, as far as it is known, the number of rows of the table that they index.
    """

    samples: Sequence[Sample]
    net: Takes
    option: Option
    scaling: Scaling
    bounds: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.samples) // (self.net.batch or 1)

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        size = self.net.batch or 1
        start = range(len(self))[k] * size  # raises IndexError where a sequence has to
        samples = [self.samples[i] for i in range(start, start + size)]
        return {name: self._value(name, port, samples) for name, port in self.net.ports.items()}

    def _value(self, name: str, port: Port, samples: list[Sample]) -> np.ndarray:
        """The value of one input, with its batch axis and in its dtype. Raises BadInput where it cannot be that."""
        given = [sample[name] for sample in samples]
        if len({value.shape for value in given}) > 1:
            raise self.option.wrong(
                f"samples for {name} that go into one batch of {len(given)} differ in shape; give them one shape"
            )
        values = np.stack(given)
        if port.kind == "floats":
            fed = self._floats(name, port, self.scaling(values))
        elif port.kind == "integers":
            fed = self._integers(name, port, values)
        else:
            fed = values
        return fed if port.batched else fed[0]

    def _floats(self, name: str, port: Port, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            fed = values.astype(port.dtype.numpy())
        if not np.isfinite(fed).all():
            raise self.option.wrong(f"{name} holds NaN, infinity, or values beyond {port.type}; remove those samples")
        return fed

    def _integers(self, name: str, port: Port, values: np.ndarray) -> np.ndarray:
        low, high = int(values.min()), int(values.max())
        bits, signed = int(port.dtype.bitwidth), port.dtype.is_signed()
        least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if low < least or high > most:
            raise self.option.wrong(
                f"{name} holds {low} to {high}, and {port.type} goes from {least} to {most}; give numbers that fit"
            )
        if (rows := self.bounds.get(name)) is not None and (low < -rows or high >= rows):
            raise self.option.wrong(
                f"{name} holds {low} to {high}, and the table that it indexes has {rows} rows; give 0 to {rows - 1}"
            )
        return values.astype(port.dtype.numpy())
