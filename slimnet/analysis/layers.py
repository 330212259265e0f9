"""The weights of a network, layer by layer, as filters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.graph.parameters import Role, Use
from slimnet.graph.registry import Trait
from slimnet.graph.units import Trace


@dataclass(frozen=True)
class Layer:
    """The weights of one layer.

    Attributes:
        name: The name of the weight tensor.
        use: What the tensor is for the operator that reads it.
        filters: The weights, [N, d], one row per output channel or neuron; a view where the layout allows it.
    """

    name: str
    use: Use
    filters: npt.NDArray[Any]

    @property
    def op(self) -> str:
        """Name of the operator, such as "Conv"."""
        return self.use.op

    @property
    def is_conv(self) -> bool:
        return Trait.CONVOLUTION in self.use.traits


def layers(trace: Trace) -> Iterator[Layer]:
    """Every float weight with an output axis, each tensor once, in the order of the graph."""
    seen, params = set(), trace.params()
    for axis in trace.parameter_axes:
        if not axis.is_weight or not axis.role & Role.OUT or axis.name in seen:
            continue
        tensor = params[axis.name]
        if tensor.dtype.kind == "f" and tensor.size:
            seen.add(axis.name)
            filters = np.moveaxis(tensor, axis.axis, 0)
            yield Layer(axis.name, axis.use, filters.reshape(len(filters), -1))
