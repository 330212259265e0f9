"""What is compared besides the outputs: the values behind an operator that does not show every change.

A network whose only output is an ArgMax says the same for almost any two inputs, and a Sigmoid of -100 is zero whatever
stands before it. What decides them is looked at as well: the last values before such an operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.evaluate import read_by
from slimnet.graph.registry import Trait, traits_of
from slimnet.graph.units import Group, Trace
from slimnet.runtime.backend import Backend, Session

Arrays: TypeAlias = list[npt.NDArray[Any]]

#: No more values than these are looked at behind the outputs of one network.
MAX_BEHIND = 16
#: Values that are looked at inside the network for one group.
PLACES_INSIDE = 4
_HIDES = Trait.HIDES | Trait.NONLINEAR
_PASSES = Trait.MOVES | Trait.SCALES | Trait.POINTWISE
_WHOLE = (ir.DataType.BOOL, ir.DataType.INT64, ir.DataType.INT32)


def behind(model: ir.Model) -> dict[str, ir.Value]:
    """The values that decide outputs which do not show every change of them.

    Args:
        model: The network.

    Returns:
        The values by the way that leads to them: the number of the output, and each operator passed with the number of
        its input, such as "0/ArgMax:0". Two networks that end alike have the same ways, whatever their values' names.
    """
    found: dict[str, ir.Value] = {}
    seen: set[ir.Value] = set()
    ahead = [(str(k), value, True) for k, value in enumerate(model.graph.outputs)][::-1]
    while ahead and len(found) < MAX_BEHIND:
        way, value, scaled = ahead.pop()
        node = value.producer()
        if node is None or value in seen:
            continue
        seen.add(value)
        traits = traits_of(node)
        hides = bool(traits & _HIDES)
        passes = _PASSES if scaled else Trait.MOVES
        if not hides and not traits & passes and value.dtype not in _WHOLE:
            continue
        for place, source in reversed(list(enumerate(node.inputs))):
            if source is None or source.producer() is None:
                continue
            step = f"{way}/{node.op_type}:{place}" if hides or len(node.inputs) > 1 else way
            if hides and source.dtype not in _WHOLE:
                found[step] = source
            ahead.append((step, source, scaled and not hides))
    return found


def watching(model: ir.Model, values: Sequence[str], backend: Backend, optimise: bool = True) -> Session:
    """A session of a network that puts out these values after its outputs."""
    if not values:
        return backend.session(model, optimise)
    copy = model.clone()
    made = {value.name: value for node in copy.graph for value in node.outputs}
    copy.graph.outputs.extend(made[name] for name in values)
    return backend.session(copy, optimise)


@dataclass(frozen=True)
class Watched:
    """Values of the masked network and the same values of the slim one, in one order; the outputs come before them.

    Attributes:
        masked: The names in the masked network.
        slim: The names in the slim one.
        kept: For each value the kept indices of each axis that loses some, as the masked network has all of them.
    """

    masked: tuple[str, ...] = ()
    slim: tuple[str, ...] = ()
    kept: tuple[Mapping[int, npt.NDArray[np.int64]], ...] = ()

    def of_masked(self, found: Arrays) -> Arrays:
        """What the masked network has computed, without the channels that the slim one does not have."""
        first = len(found) - len(self.kept)
        return [*found[:first], *map(_part, found[first:], self.kept)]

    def computed_as(self, names: Mapping[str, str]) -> Watched:
        """The same values, some of which the slim network computes under other names."""
        return replace(self, slim=tuple(names.get(name, name) for name in self.slim))

    def and_inside(self, trace: Trace, removed: Bools, values: Mapping[str, ir.Value]) -> Watched:
        """These values, and after them more of the dense network that the slim one has under the same names."""
        known = {*self.masked, *(value.name for value in trace.net.model.graph.outputs)}
        inner = {name: value for name, value in values.items() if name not in known}
        kept = (kept_indices(trace, removed, value) for value in inner.values())
        # What is behind an output may have another name in a file, but not in what surgery has made.
        return Watched((*self.masked, *inner), (*self.masked, *inner), (*self.kept, *kept))


def watched(trace: Trace, removed: Bools, masked: ir.Model, slim: ir.Model) -> Watched:
    """The values behind the outputs of both networks; those that only one of them has are left out."""
    ours, theirs = behind(masked), behind(slim)
    outputs = {value.name for graph in (masked.graph, slim.graph) for value in graph.outputs}
    pairs: dict[str, str] = {}
    for way, value in ours.items():
        other = theirs.get(way)
        if other is not None and value.name not in outputs and other.name not in outputs:
            pairs.setdefault(str(value.name), str(other.name))
    units = {value.name: value for value in trace.values}
    # Which channels are kept is known for the sizes of the trace only, and these are compared at other sizes as well.
    whole = {name: other for name, other in pairs.items() if not kept_indices(trace, removed, units.get(name))}
    return Watched(tuple(whole), tuple(whole.values()), ({},) * len(whole))


def kept_indices(trace: Trace, removed: Bools, value: ir.Value | None) -> dict[int, npt.NDArray[np.int64]]:
    """For each axis of a value of the dense network that loses indices, those that stay."""
    axes = None if value is None else trace.units_in(value)
    stays = ~np.append(removed, False)
    return {k: np.flatnonzero(stays[units]) for k, units in enumerate(axes or ()) if not stays[units].all()}


def _part(array: npt.NDArray[Any], kept: Mapping[int, npt.NDArray[np.int64]]) -> npt.NDArray[Any]:
    for axis, index in kept.items():
        # Behind a node that sees the kept channels only, they are gone already.
        if axis < array.ndim and array.shape[axis] != len(index):
            array = array.take(index, axis)
    return array


def frontiers(trace: Trace, groups: Sequence[Group], slim: ir.Model) -> list[dict[str, ir.Value]]:
    """For each group, some values of the dense network that are computed from its channels and do not have them.

    There a group is read: by a layer, a sum, or a product of two activations. Values that the slim network does not
    have under the same name are left out.
    """
    there = {value.name for node in slim.graph for value in node.outputs}
    number = {int(unit): k for k, group in enumerate(groups) for unit in group.units}
    of_unit = np.full(trace.n_units + 1, -1)
    of_unit[list(number)] = list(number.values())
    carried: dict[ir.Value, frozenset[int]] = {}
    for value in trace.values:
        axes = trace.units_in(value) or ()
        carried[value] = frozenset(int(k) for units in axes for k in np.unique(of_unit[units]) if k >= 0)
    found: list[dict[str, ir.Value]] = [{} for _ in groups]
    for value in trace.values:
        node = value.producer()
        if node is None or value.name not in there or trace.is_constant(value) or trace.units_in(value) is None:
            continue
        read = {k for source in read_by(node) for k in carried.get(source, ())}
        for k in read - carried[value]:
            if len(found[k]) < PLACES_INSIDE:
                found[k][str(value.name)] = value
    return found
