"""Statistics of the activations of units on data, measured by running any ONNX network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.calibration.taps import Tap, taps
from slimnet.common.errors import BadInput
from slimnet.data.samples import Samples, evenly
from slimnet.graph.units import Trace
from slimnet.methods.from_data import ActivationStatistics
from slimnet.runtime.backend import Backend, tap
from slimnet.runtime.feeds import input_dtypes
from slimnet.runtime.onnxruntime import DEFAULT

#: Elements of all activations that are kept in memory at a time: 256 MiB of float32.
_ELEMENTS = 1 << 26


def activation_statistics(
    trace: Trace,
    samples: Samples,
    above: float = 1e-4,
    batch: int = 64,
    limit: int = 5000,
    backend: Backend = DEFAULT,
) -> dict[str, ActivationStatistics]:
    """Statistics of the activations of every unit, over all values that `taps` finds for it.

    Args:
        trace: The trace of a network with one input, whose first axis counts samples.
        samples: The samples to run it on.
        above: The threshold: entries whose absolute value is larger count as active.
        batch: The number of samples at a time, fewer where their activations would not fit into memory; a network
            whose file fixes the batch size runs with that.
        limit: The largest number of samples that are used, evenly spaced.
        backend: The backend that runs the network.

    Returns:
        The statistics by group name; groups whose units lie on no value are left out.

    Raises:
        BadInput: The samples do not fit the network, or are fewer than one batch of fixed size.
    """
    found = {group.name: parts for group, parts in zip(trace.groups, taps(trace), strict=True) if parts}
    sizes = {group.name: len(group) for group in trace.groups}
    sums = {name: _Sums(parts, sizes[name]) for name, parts in found.items()}
    values = list(dict.fromkeys(part.value for parts in found.values() for part in parts))
    samples.check(trace.net)
    few = evenly(samples, limit)
    for count, arrays in _run(trace, few, values, batch, backend) if values else ():
        for part in sums.values():
            part.add(count, arrays, above)
    return {name: part.result() for name, part in sums.items()}


@dataclass
class _Sums:
    """The running sums over batches for one group, whose units `parts` show."""

    parts: Sequence[Tap]
    units: int
    active: npt.NDArray[np.float64] = field(init=False)
    entries: npt.NDArray[np.float64] = field(init=False)
    pooled: list[npt.NDArray[np.float32]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.active, self.entries = np.zeros(self.units), np.zeros(self.units)

    def add(self, samples: int, arrays: Mapping[str, npt.NDArray[Any]], above: float) -> None:
        total, count = np.zeros((self.units, samples)), np.zeros(self.units)
        for part in self.parts:
            lines = _by_index(arrays[part.value], part.axis, samples)
            np.add.at(total, part.unit, lines.sum(axis=2, dtype=np.float64)[part.index])
            active = np.count_nonzero(np.abs(lines) > above, axis=(1, 2))
            self.active += np.bincount(part.unit, active[part.index], self.units)
            count += np.bincount(part.unit, minlength=self.units) * lines.shape[2]
        self.entries += count * samples
        with np.errstate(invalid="ignore"):  # NaN, "cannot be ranked", for a unit that is not seen
            self.pooled.append((total / count[:, None]).T.astype(np.float32))

    def result(self) -> ActivationStatistics:
        with np.errstate(invalid="ignore"):
            return ActivationStatistics(self.active / self.entries, np.concatenate(self.pooled))


def _by_index(array: npt.NDArray[Any], axis: int, samples: int) -> npt.NDArray[Any]:
    """A value as [index along the axis, samples, entries]; one whose first axis counts no samples as a part of each."""
    lines = np.moveaxis(array, axis, 0)
    if axis != 0 and array.shape[0] == samples:
        return lines.reshape(len(lines), samples, -1)
    return np.broadcast_to(lines.reshape(len(lines), 1, -1), (len(lines), samples, lines[0].size))


# -- running ---------------------------------------------------------------------------------------------------------


def _run(
    trace: Trace, samples: Samples, values: Sequence[str], batch: int, backend: Backend
) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """The values, batch by batch, with the number of samples; of a fixed batch size what is left over is left out."""
    ((name, shape),) = trace.net.inputs.items()
    fixed = _is_fixed(trace, name)
    step = shape[0] if fixed else _batch_size(trace, values, batch, shape[0])
    if fixed and len(samples) < step:
        raise BadInput(f"`data`: has {len(samples)} samples, fewer than one batch of {step}; give more")
    session = tap(trace.net.model, values, backend)
    kind = input_dtypes(trace.net)[name].numpy()
    for x, _ in samples.batches(step):
        if len(x) == step or not fixed:
            yield len(x), dict(zip(values, session.run({name: x.astype(kind)}), strict=True))


def _is_fixed(trace: Trace, name: str) -> bool:
    """Whether the file fixes the batch size."""
    shape = next(value.shape for value in trace.net.model.graph.inputs if value.name == name)
    return shape is not None and isinstance(shape[0], int)


def _batch_size(trace: Trace, values: Sequence[str], most: int, traced_with: int) -> int:
    """The number of samples at a time whose activations fit into memory."""
    shapes = {value.name: trace.shape_of(value) for value in trace.values}
    elements = sum(math.prod(shapes[value] or ()) for value in values) // max(1, traced_with)
    return max(1, min(most, _ELEMENTS // max(1, elements)))
