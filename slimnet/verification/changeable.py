"""A slim network whose weights can be changed from run to run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.parameters import Role
from slimnet.graph.surgery import represented_zero
from slimnet.graph.units import Group, Trace
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.feeds import fed_inputs
from slimnet.verification.observe import Arrays, Watched, watching

Weights: TypeAlias = dict[str, npt.NDArray[Any]]


class Changeable:
    """A slim network with its weights as inputs."""

    def __init__(self, trace: Trace, removed: Bools, slim: ir.Model, watch: Watched, backend: Backend) -> None:
        self._trace, self._removed = trace, removed
        model, self._weights = weights_as_inputs(slim, {m.tensor for g in trace.groups for m in g.members})
        self._session = watching(model, watch.slim, backend)

    def zeroings(self, group: Group) -> Iterator[Weights]:
        """Changed weights, each time with the slices of another kept unit set to zero, the heaviest unit first."""
        kept = np.flatnonzero(~self._removed[group.units])
        index: dict[tuple[str, int], npt.NDArray[np.int64]] = {}
        zeros: dict[tuple[str, int], npt.NDArray[Any]] = {}
        weight = np.zeros(len(kept))
        for member in group.members:
            array = self._weights.get(member.tensor)
            key = (member.tensor, member.axis)
            zero = represented_zero(self._trace, member.tensor)
            if array is None or member.role & Role.UNTOUCHED or zero is None:
                continue
            position = np.cumsum(self._trace.kept(*key, self._removed)) - 1
            index[key], zeros[key] = position[member.index[kept]], zero
            others = tuple(k for k in range(array.ndim) if k != member.axis)
            sums = np.abs(array.astype(np.float32) - zero.astype(np.float32)).sum(axis=others)
            weight += np.log(sums[index[key]].sum(axis=1) + 1e-30)
        if not index:
            return
        for unit in np.argsort(-weight):
            change: Weights = {}
            for (tensor, axis), where in index.items():
                array = change.get(tensor)
                if array is None:
                    array = change[tensor] = self._weights[tensor].copy()
                array[(slice(None),) * axis + (where[unit],)] = zeros[tensor, axis]
            yield change

    def run(self, feed: Feeds, change: Weights) -> Arrays:
        """The outputs with some weights changed."""
        return self._session.run({**self._weights, **change, **feed})


def weights_as_inputs(model: ir.Model, names: set[str]) -> tuple[ir.Model, Weights]:
    """A copy of a model in which those of these weights that are initializers are inputs, and what they were."""
    copy = model.clone()
    weights: Weights = {}
    for name in names & set(copy.graph.initializers):
        value = copy.graph.initializers[name]
        tensor = value.const_value
        if tensor is None or tensor.dtype.bitwidth < 8:
            continue
        weights[name] = np.ascontiguousarray(tensor.numpy())
        copy.graph.initializers.pop(name)
        value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
        value.const_value = None
        if value not in copy.graph.inputs:
            copy.graph.inputs.append(value)
    return copy, weights


def of_any_size(model: ir.Model) -> ir.Model:
    """A copy of a network that says nothing about the sizes of its inputs, and of what is computed from them."""
    copy = model.clone()
    for value in fed_inputs(copy).values():
        value.shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
    for graph in copy.graphs():
        for node in graph:
            for value in node.outputs:
                value.shape = None
    return copy
