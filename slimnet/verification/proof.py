"""Prove that the comparison of slim and masked could have failed: a kept unit that is zeroed has to show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput, VerifyFailed
from slimnet.graph.axes import Bools
from slimnet.graph.parameters import Role
from slimnet.graph.surgery import represented_zero
from slimnet.graph.units import Group, Trace
from slimnet.runtime.backend import Backend, Feeds, RunFailed
from slimnet.runtime.feeds import fed_inputs, index_bounds, random_inputs
from slimnet.verification.comparison import Comparison
from slimnet.verification.draws import NORMAL, Draw, Shapes, small_pictures
from slimnet.verification.observe import Arrays, Watched, kept_indices, watching

#: A zeroed kept unit must show at least this many times the tolerance.
PROOF_FACTOR = 10
#: So many different units of a group are tried at the outputs, and so many inside the network.
TRIES, TRIES_INSIDE = 4, 16
#: Values that are looked at inside the network for one group, and inputs that they are compared on.
PLACES_INSIDE, INPUTS_INSIDE = 4, 3
#: Smaller inputs that masked and slim are compared on; several, as the scale of single numbers is read off all of them.
INPUTS_SMALLER = 4
#: From so many multiply-adds on, one run for each group, smaller pictures are worth their own comparison.
COSTLY = 2_000_000_000

Weights: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass
class Proof:
    """What zeroing kept units has shown.

    Attributes:
        proven: The groups whose kept units show.
        inside: Those of them that show only where they are read: at the outputs rounding hides them.
        unproven: The groups for which equality says nothing.
    """

    proven: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)


def prove(
    trace: Trace,
    removed: Bools,
    masked: ir.Model,
    slim: ir.Model,
    comparison: Comparison,
    backend: Backend,
    progress: Callable[[float], None] | None = None,
) -> Proof:
    """Zero one kept unit of each group in the slim network: the comparison must notice.

    A large network shows most groups on smaller pictures already, on which masked and slim are compared as well.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        masked: The masked network.
        slim: The slim network.
        comparison: The comparison that has found masked and slim equal.
        backend: What runs the networks.
        progress: Called with the fraction done.

    Raises:
        VerifyFailed: Masked and slim differ where a group is read that does not show at the outputs.
    """
    tell = progress or (lambda _: None)
    hidden = list(trace.groups)
    for changeable in _stages(trace, removed, masked, slim, comparison, backend):
        hidden = [group for group in _told(hidden, tell) if not changeable.shows(group, TRIES)]
        if not hidden:
            break
    inside = _inside(trace, removed, masked, slim, hidden, comparison, backend) if hidden else set()
    tell(1.0)
    unproven = {group.name for group in hidden} - inside
    return Proof(
        [group.name for group in trace.groups if group.name not in unproven],
        [group.name for group in hidden if group.name in inside],
        [group.name for group in hidden if group.name in unproven],
    )


def _told(groups: Sequence[Group], tell: Callable[[float], None]) -> Iterator[Group]:
    """The groups one after the other, with what is done of them told."""
    for done, group in enumerate(groups):
        yield group
        tell(0.5 * (done + 1) / len(groups))


def _stages(
    trace: Trace, removed: Bools, masked: ir.Model, slim: ir.Model, comparison: Comparison, backend: Backend
) -> Iterator[Changeable]:
    """The slim network, to be changed: on smaller pictures where that runs and pays, then on the inputs as they are."""
    shapes = small_pictures(trace.net.inputs)
    costly = len(trace.groups) * sum(trace.macs(removed).values()) >= COSTLY
    # Which channels of the watched values are kept is known for the sizes of the trace only.
    if costly and shapes != trace.net.inputs and not any(comparison.watch.kept):
        with suppress(VerifyFailed, BadInput):  # a Reshape to fixed sizes, for example
            yield _smaller(trace, removed, shapes, masked, slim, comparison, backend)
    yield Changeable(trace, removed, slim, comparison, backend)


def _smaller(
    trace: Trace,
    removed: Bools,
    shapes: Shapes,
    masked: ir.Model,
    slim: ir.Model,
    comparison: Comparison,
    backend: Backend,
) -> Changeable:
    """The slim network, to be changed, on inputs of other shapes, for which it equals the masked one too.

    Raises:
        VerifyFailed: The networks do not run on them, or are not equal.
        BadInput: The runtime refuses them.
    """
    bounds = index_bounds(trace)
    inputs = [Draw(NORMAL, random_inputs(trace.net, shapes, seed, bounds)) for seed in range(INPUTS_SMALLER)]
    smaller = Comparison(trace, of_any_size(masked), comparison.watch, inputs, comparison.tolerance, backend)
    changeable = Changeable(trace, removed, of_any_size(slim), smaller, backend)
    try:
        apart = smaller.judged([changeable.run(feed, {}) for feed in smaller.feeds])
    except RunFailed as failure:
        raise VerifyFailed(f"the slim network does not run on smaller inputs: {failure.reason}") from failure
    if apart.relative > smaller.tolerance:
        raise VerifyFailed(f"{trace.net.name}: the slim network differs from the masked one on smaller inputs")
    return changeable


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


def _inside(
    trace: Trace,
    removed: Bools,
    masked: ir.Model,
    slim: ir.Model,
    hidden: Sequence[Group],
    comparison: Comparison,
    backend: Backend,
) -> set[str]:
    """Those of these groups whose kept units show where they are read."""
    places = frontiers(trace, hidden, slim)
    watch = _watch(trace, removed, {name: value for found in places for name, value in found.items()})
    if not watch.slim:
        return set()
    first, shape = comparison.telling, trace.net.inputs
    same = [k for k, draw in enumerate(comparison.draws) if all(draw.feed[n].shape == shape[n] for n in draw.feed)]
    inputs = [comparison.draws[k] for k in dict.fromkeys([*first, *same])][:INPUTS_INSIDE]
    inner = Comparison(trace, masked, watch, inputs, comparison.tolerance, backend)
    apart = inner.judged(inner.outputs_of(slim, "the slim network"))
    if apart.relative > inner.tolerance:
        raise VerifyFailed(
            f"{trace.net.name}: the slim network differs from the masked one by {apart.relative:.2e} "
            f"at {apart.where}, inside the network (tolerance {inner.tolerance:.0e})"
        )
    changeable = Changeable(trace, removed, slim, inner, backend)
    return {
        group.name
        for group, found in zip(hidden, places, strict=True)
        if changeable.shows(group, TRIES_INSIDE, found.keys())
    }


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
        if node is None or value.name not in there or trace.is_constant(value) or not _floating(value):
            continue
        read = {k for source in node.inputs if source is not None for k in carried.get(source, ())}
        for k in read - carried[value]:
            if len(found[k]) < PLACES_INSIDE:
                found[k][str(value.name)] = value
    return found


def _floating(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def _watch(trace: Trace, removed: Bools, values: dict[str, ir.Value]) -> Watched:
    outputs = {value.name for value in trace.net.model.graph.outputs}
    inner = {name: value for name, value in values.items() if name not in outputs}
    kept = tuple(kept_indices(trace, removed, value) for value in inner.values())
    return Watched(tuple(inner), tuple(inner), kept)


class Changeable:
    """The slim network with its weights as inputs, so that they can be changed from run to run."""

    def __init__(self, trace: Trace, removed: Bools, slim: ir.Model, comparison: Comparison, backend: Backend) -> None:
        self._trace, self._removed, self._comparison = trace, removed, comparison
        names = {m.tensor for g in trace.groups for m in g.members}
        model, self._weights = weights_as_inputs(slim, names)
        self._session = watching(model, comparison.watch.slim, backend)

    def shows(self, group: Group, tries: int, places: Collection[str] | None = None) -> bool:
        """Whether the comparison notices, at these places if they are given, that a kept unit of a group is zeroed."""
        return any(
            self._comparison.notices(self.run(self._comparison.feeds[on], change), PROOF_FACTOR, on, places)
            for on in self._comparison.telling
            for change in islice(self.zeroings(group), tries)
        )

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
