"""Labelled samples: kept as compact as they came, scaled and normalised batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.common.inputs import sizes, specs

if TYPE_CHECKING:
    from slimnet.graph.net import Net

Batch = tuple[np.ndarray, np.ndarray]


class Pixels(Protocol):
    """What samples need of the array that contains them; it may read them from disk only when indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, indices: np.ndarray, /) -> Any: ...

    def take(self, indices: np.ndarray, axis: Literal[0]) -> Pixels: ...


@dataclass(frozen=True)
class Samples:
    """Labelled samples, and a dataset that `torch.utils.data.DataLoader` takes.

    Attributes:
        x: The values, uint8 or float32 [n, ...]; uint8 is divided by 255 when read.
        y: The classes from 0 up, int64 [n].
        mean, std: What is subtracted and divided by after scaling, float32 [channels]; None leaves the values alone.
    """

    x: Pixels
    y: np.ndarray
    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    def check(self, net: Net) -> None:
        """Refuse a network that takes samples of another shape, or several inputs, by BadInput."""
        (shape, *others) = net.inputs.values()
        if others or self.shape != tuple(shape[1:]):
            takes = " and ".join(specs(net.inputs))
            raise BadInput(
                f"`data`: samples of shape {sizes(self.shape)} do not fit {net.name}, which takes {takes}"
                + "".join(f"; {note}: give `inputs`" for note in net.notes)
            )

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The samples of some indices: values float32 [k, ...] and classes int64 [k]; copies, free to be changed."""
        index = np.asarray(indices, np.int64)
        values = self.x[index]
        x = values.astype(np.float32, copy=False)
        if values.dtype == np.uint8:
            x /= 255
        if self.mean is not None and self.std is not None:
            per_channel = (-1, *(1,) * (x.ndim - 2))
            x -= self.mean.reshape(per_channel)
            x /= self.std.reshape(per_channel)
        return x, self.y[index]

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.__getitems__(np.arange(start, min(start + size, len(self))))

    def take(self, indices: np.ndarray) -> Samples:
        """Only the samples of some indices, in that order."""
        return replace(self, x=self.x.take(indices, 0), y=self.y[indices])


def evenly(samples: Samples, limit: int) -> Samples:
    """At most `limit` of the samples, evenly spaced, for many data sets are sorted by class."""
    count = min(limit, len(samples))
    return samples.take(np.arange(count) * len(samples) // count)


def labelled(x: np.ndarray, y: np.ndarray, where: str) -> Samples:
    """Samples from arrays that a user gave; `where` begins the messages.

    Values other than uint8 become float32 as they are.

    Raises:
        BadInput: The arrays do not fit together, are empty, or are no finite numbers and classes from 0 up.
    """
    if x.ndim < 1 or y.shape != x.shape[:1]:
        raise BadInput(f"{where}: x has shape {list(x.shape)} and y {list(y.shape)}; give one class for every sample")
    if not x.size:
        raise BadInput(f"{where}: x has shape {list(x.shape)}, which holds no samples")
    classes = y.astype(np.int64) if y.dtype.kind in "iu" else None
    if classes is None or classes.min() < 0:
        what = f"of type {y.dtype}" if classes is None else f"as low as {classes.min()}"
        raise BadInput(f"{where}: y holds labels {what}; they must be integers from 0 up")
    if x.dtype.kind not in "biuf":
        raise BadInput(f"{where}: x is of type {x.dtype}; it must hold numbers")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            x = x.astype(np.float32, copy=False)
        if not np.isfinite(x).all():
            raise BadInput(f"{where}: x holds values that are not finite in float32; remove those samples")
    return Samples(x, classes)
