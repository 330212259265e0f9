"""Prove that the comparison of slim and masked could have failed: a kept unit that is zeroed has to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.parameters import Role
from slimnet.graph.units import Group, Trace
from slimnet.runtime.backend import Backend, Feeds
from slimnet.verification.distance import distance

#: A zeroed kept unit must show at least this many times the tolerance.
PROOF_FACTOR = 10
#: So many different units of a group are tried before it is called unproven.
PROOF_TRIES = 16

Weights: TypeAlias = dict[str, npt.NDArray[Any]]


def prove(
    trace: Trace,
    removed: Bools,
    slim: ir.Model,
    feed: Feeds,
    expected: Sequence[npt.NDArray[Any]],
    tolerance: float,
    backend: Backend,
    progress: Callable[[float], None] | None = None,
) -> tuple[list[str], list[str]]:
    """Zero one kept unit of each group in the slim network: the comparison must notice.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        slim: The slim network.
        feed: One set of inputs.
        expected: The outputs of the masked network for them.
        tolerance: The largest relative difference that the comparison accepts.
        backend: What runs the slim network.
        progress: Called with the fraction done.

    Returns:
        The names of the groups that are proven, and of those whose kept units do not show.
    """
    changeable = Changeable(trace, removed, slim, backend)
    proven: list[str] = []
    unproven: list[str] = []
    for done, group in enumerate(trace.groups):
        outputs = (changeable.run(feed, change) for change in changeable.zeroings(group))
        noticed = any(distance(expected, found)[1] > PROOF_FACTOR * tolerance for found in outputs)
        (proven if noticed else unproven).append(group.name)
        if progress is not None:
            progress((done + 1) / len(trace.groups))
    return proven, unproven


class Changeable:
    """The slim network with its weights as inputs, so that they can be changed from run to run."""

    def __init__(self, trace: Trace, removed: Bools, slim: ir.Model, backend: Backend) -> None:
        self._trace, self._removed = trace, removed
        model, self._weights = weights_as_inputs(slim, {m.tensor for g in trace.groups for m in g.members})
        self._session = backend.session(model)

    def zeroings(self, group: Group) -> Iterator[Weights]:
        """Changed weights, each time with the slices of another kept unit set to zero, the heaviest unit first."""
        kept = np.flatnonzero(~self._removed[group.units])
        index: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
        weight = np.zeros(len(kept))
        for member in group.members:
            array = self._weights.get(member.tensor)
            key = (member.tensor, member.axis)
            if array is None or member.role & Role.UNTOUCHED:
                continue
            position = np.cumsum(self._trace.kept(*key, self._removed)) - 1
            index[key] = position[member.index[kept]]
            others = tuple(k for k in range(array.ndim) if k != member.axis)
            sums = np.abs(array, dtype=np.float32).sum(axis=others)
            weight += np.log(sums[index[key]].sum(axis=1) + 1e-30)
        if not index:
            return
        for unit in np.argsort(-weight)[:PROOF_TRIES]:
            change: Weights = {}
            for (tensor, axis), where in index.items():
                array = change.get(tensor)
                if array is None:
                    array = change[tensor] = self._weights[tensor].copy()
                array[(slice(None),) * axis + (where[unit],)] = 0
            yield change

    def run(self, feed: Feeds, change: Weights) -> list[npt.NDArray[Any]]:
        """The outputs with some weights changed."""
        return self._session.run({**self._weights, **change, **feed})


def weights_as_inputs(model: ir.Model, names: set[str]) -> tuple[ir.Model, Weights]:
    """A copy of a model in which those of these weights that are floats are inputs, and what they were."""
    copy = model.clone()
    weights: Weights = {}
    for name in names & set(copy.graph.initializers):
        value = copy.graph.initializers[name]
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        weights[name] = np.ascontiguousarray(tensor.numpy())
        copy.graph.initializers.pop(name)
        value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
        value.const_value = None
        if value not in copy.graph.inputs:
            copy.graph.inputs.append(value)
    return copy, weights
