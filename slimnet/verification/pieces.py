"""A slim network in pieces: cut where groups are read, so that one run shows many of them.

A run of the whole network tells of one group, and a network of thousands of layers would take thousands of long runs.
In pieces, what a zeroed unit changes ends where its group is read: the next piece starts from what is known of the
masked network there. Groups whose changes do not meet are zeroed in one run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from slimnet.graph.axes import Bools
from slimnet.graph.evaluate import read_by
from slimnet.graph.units import Group, Trace
from slimnet.runtime.backend import Backend, Feeds
from slimnet.verification.changeable import Changeable, Weights
from slimnet.verification.comparison import Comparison

#: What the name of a value that is computed ends with, where the value itself has become an input.
_COMPUTED = "|computed"


def read_in_pieces(
    trace: Trace,
    removed: Bools,
    slim: ir.Model,
    comparison: Comparison,
    groups: Sequence[Group],
    places: Sequence[Collection[str]],
    tries: int,
    backend: Backend,
) -> Iterator[str]:
    """The names of the groups of which a kept unit shows where the group is read, when it is zeroed.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        slim: The slim network.
        comparison: The comparison at the places; it has found masked and slim equal.
        groups: The groups.
        places: For each group, the watched values that it is looked at by.
        tries: So many kept units of a group are tried.
        backend: What runs the pieces.
    """
    looked = {group.name: set(at) for group, at in zip(groups, places, strict=True) if at}
    inner: set[str] = set().union(*looked.values())
    # An output stays one: it is looked at as it is.
    cuts = {name: name + _COMPUTED for name in comparison.watch.slim if name in inner}
    pieces = _cut(slim, cuts, comparison.inner(0))
    changeable = Changeable(trace, removed, pieces, comparison.watch.computed_as(cuts), backend)
    reach = _Reach(pieces)
    zeroings = {group.name: changeable.zeroings(group) for group in groups if group.name in looked}
    for _ in range(tries):
        changes = {name: change for name, ahead in zeroings.items() if (change := next(ahead, None)) is not None}
        for run in _together(changes, {name: {cuts.get(at, at) for at in looked[name]} for name in changes}, reach):
            for on in comparison.telling:
                known = comparison.inner(on)
                found = changeable.run({**comparison.feeds[on], **{name: known[name] for name in cuts}}, run.weights)
                for name in [name for name in run.groups if comparison.notices(found, on, looked[name])]:
                    run.groups.remove(name)
                    del zeroings[name]
                    yield name


def _cut(model: ir.Model, computed: Mapping[str, str], like: Feeds) -> ir.Model:
    """A copy of a network in which these values are inputs to what reads them, and computed under other names."""
    copy = model.clone()
    for value in [value for node in copy.graph for value in node.outputs if value.name in computed]:
        name = str(value.name)
        kind = ir.TensorType(ir.DataType.from_numpy(like[name].dtype))
        given = ir.Value(name=name, type=kind, shape=ir.Shape([None] * like[name].ndim))
        ir.convenience.replace_all_uses_with(value, given, replace_graph_outputs=True)
        value.name = computed[name]
        copy.graph.inputs.append(given)
    return copy


class _Reach:
    """How far a change of weights reaches in a network."""

    def __init__(self, model: ir.Model) -> None:
        self._consumers: dict[str, list[ir.Node]] = defaultdict(list)
        for node in model.graph:
            for name in {str(value.name) for value in read_by(node)}:
                self._consumers[name].append(node)

    def values(self, weights: Iterable[str]) -> set[str]:
        """The names of all values that are computed from these weights."""
        found: set[str] = set()
        ahead = list(weights)
        while ahead:
            for node in self._consumers.get(ahead.pop(), ()):
                new = {str(value.name) for value in node.outputs} - found
                found |= new
                ahead += new
        return found


@dataclass
class _Run:
    """Groups that are zeroed together, their changed weights, what they are looked at by, and what they change."""

    groups: list[str]
    weights: Weights
    looked: set[str]
    changed: set[str]


def _together(changes: Mapping[str, Weights], looked: Mapping[str, set[str]], reach: _Reach) -> list[_Run]:
    """Few runs that zero all groups: in none, a group changes another one's weights or what that is looked at by."""
    runs: list[_Run] = []
    for name, weights in changes.items():
        changed = reach.values(weights)
        for run in runs:
            meets = looked[name] & run.changed or changed & run.looked or weights.keys() & run.weights.keys()
            if not meets:
                run.groups.append(name)
                run.weights |= weights
                run.looked |= looked[name]
                run.changed |= changed
                break
        else:
            runs.append(_Run([name], dict(weights), set(looked[name]), changed))
    return runs
