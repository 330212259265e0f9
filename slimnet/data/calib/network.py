"""What a network takes, and how samples become what it is fed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from slimnet.common.inputs import SCALAR
from slimnet.data.calib.option import Option, Sample
from slimnet.graph.fed import fed_inputs, input_dtypes
from slimnet.graph.net import Net

#: The sizes of an axis that images have for their colours.
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Port:
    """One input of a network.

    Attributes:
        shape: The sizes that the network is traced with.
        sizes: What the graph says of every axis: its size, the name of an open size, or None for one without a name.
        dtype: The type of its elements.
        batched: Whether axis 0 counts samples.
    """

    shape: tuple[int, ...]
    sizes: tuple[int | str | None, ...]
    dtype: ir.DataType
    batched: bool = False

    @property
    def kind(self) -> str:
        """What it takes, as messages say it: "floats", "booleans" or "integers"."""
        if self.dtype.is_floating_point():
            return "floats"
        return "booleans" if self.dtype == ir.DataType.BOOL else "integers"

    @property
    def type(self) -> str:
        """The type of its elements, as messages and `astype` say it: "float32"."""
        return str(self.dtype.numpy().name)

    @property
    def rank(self) -> int:
        """The number of axes of one sample."""
        return len(self.sizes) - self.batched

    @property
    def wanted(self) -> str:
        """The shape of one sample, as messages say it; any size of an open axis will do."""
        sizes = [str(size) if isinstance(size, int) else "any" for size in self.sizes[int(self.batched) :]]
        return "x".join(sizes) or SCALAR

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a sample may have this shape; axes that the graph leaves open may have any size but 0."""
        sizes = self.sizes[int(self.batched) :]
        return len(shape) == len(sizes) and all(
            size == said if isinstance(said, int) else size > 0 for size, said in zip(shape, sizes, strict=True)
        )

    def channels_last(self) -> bool | None:
        """Whether these are images [n, height, width, channels], not [n, channels, ...]; None where nothing says so."""
        if len(self.shape) != 4:
            return None
        first, last = self.shape[1] in _CHANNELS, self.shape[3] in _CHANNELS
        return None if first == last else last


@dataclass(frozen=True)
class Takes:
    """What a network takes.

    Attributes:
        name: What messages call the network.
        ports: Its inputs by name.
        batch: The number of samples in one feed; None where the inputs share no batch axis, and a sample is a feed.
    """

    name: str
    ports: Mapping[str, Port]
    batch: int | None

    @property
    def sole(self) -> tuple[str, Port] | None:
        """The name and the port of the only input; None where there are several."""
        return next(iter(self.ports.items())) if len(self.ports) == 1 else None

    @cached_property
    def listed(self) -> str:
        """The inputs and the shapes of their samples, as messages list them."""
        return ", ".join(f"{name} ({port.wanted}, {port.type})" for name, port in self.ports.items())

    def check(self, sample: Sample, option: Option) -> None:
        """Refuse a sample whose values have other names, shapes or kinds than the inputs, by BadInput."""
        if sample.keys() != self.ports.keys():
            missing = [name for name in self.ports if name not in sample]
            what = f"lacks {', '.join(missing)}" if missing else f"also gives {_first_beyond(sample, self.ports)}"
            raise option.wrong(f"{what}; {self.name} takes {', '.join(self.ports)}: give exactly these by name")
        for name, port in self.ports.items():
            value = sample[name]
            if not port.fits(value.shape):
                raise option.wrong(
                    f"samples for {name} have shape {'x'.join(map(str, value.shape)) or SCALAR}, and {self.name} takes "
                    f"{port.wanted} (without the batch axis); give them this shape"
                )
            if not _has_kind(value, port):
                raise option.wrong(
                    f"{name} takes {port.kind} ({port.type}), and values of type {value.dtype} are "
                    f"given; convert them, as in x.astype({port.type!r})"
                )


def takes(net: Net) -> Takes:
    """What a network takes. Raises BadInput for inputs that are no tensors of numbers."""
    dtypes = input_dtypes(net)
    ports = {name: _port(value, net.inputs[name], dtypes[name]) for name, value in fed_inputs(net).items()}
    batch = _batch(ports)
    if batch is not None:
        ports = {name: Port(p.shape, p.sizes, p.dtype, batched=bool(p.sizes)) for name, p in ports.items()}
    return Takes(net.name, ports, batch)


def _port(value: ir.Value, traced: tuple[int, ...], dtype: ir.DataType) -> Port:
    if value.shape is None:
        return Port(traced, (None,) * len(traced), dtype)
    return Port(traced, tuple(size if isinstance(size, int) else size.value for size in value.shape), dtype)


def _batch(ports: Mapping[str, Port]) -> int | None:
    """The samples in one feed: 1 where the axis is open; None where the first axes differ and so count no samples.

    An input of a single axis alone is one whole tensor, such as the tokens of a sentence. A scalar belongs to one
    sample, so that it cannot go with a batch of several.
    """
    first = {port.sizes[0] for port in ports.values() if port.sizes}
    said = {size for size in first if size is not None}
    if len(said) > 1 or max((len(port.sizes) for port in ports.values()), default=0) < 2:
        return None
    batch = next((size for size in said if isinstance(size, int)), 1)
    return None if batch > 1 and not all(port.sizes for port in ports.values()) else batch


def _has_kind(value: np.ndarray, port: Port) -> bool:
    """Whether values are what an input takes; bytes are also pixels, which become floats."""
    if port.kind == "floats":
        return value.dtype.kind == "f" or value.dtype in (np.uint8, port.dtype.numpy())
    return value.dtype.kind in ("b" if port.kind == "booleans" else "iu")


def _first_beyond(sample: Sample, ports: Mapping[str, Port]) -> str:
    return next(str(name) for name in sample if name not in ports)
