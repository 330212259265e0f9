"""Prove that the comparison of slim and masked could have failed: a kept unit that is zeroed has to show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import onnx_ir as ir

from slimnet.common.errors import BadInput, VerifyFailed
from slimnet.graph.axes import Bools
from slimnet.graph.surgery import mask, slim
from slimnet.graph.units import Group, Trace
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import index_bounds, random_inputs
from slimnet.verification.branches import in_every_branch
from slimnet.verification.changeable import Changeable, of_any_size
from slimnet.verification.comparison import Comparison
from slimnet.verification.draws import NORMAL, Draw, small_pictures
from slimnet.verification.observe import frontiers
from slimnet.verification.perturbed import SIZES, perturbed
from slimnet.verification.pieces import read_in_pieces

#: So many different kept units of a group are tried; on smaller pictures, where the next stage follows, fewer.
TRIES, TRIES_SMALLER = 16, 4
#: So many inputs are compared on inside the network, and on smaller pictures: the scale of single numbers is read off
#: all of them.
INPUTS_INSIDE, INPUTS_SMALLER = 3, 4
#: From so many multiply-adds on, one run for each group, smaller pictures are worth their own comparison.
COSTLY = 2_000_000_000
#: From so many nodes on, one run for each group, groups are looked at in pieces of the network first, where they are
#: read; from so many on, only there.
IN_PIECES, DEEP = 50_000, 500_000


@dataclass
class Proof:
    """What zeroing kept units has shown.

    Attributes:
        proven: The groups whose kept units show, and those of which nothing is kept.
        inside: Those of them that show only where they are read: at the outputs rounding hides them.
        perturbed: Those of them that show only with larger random weights in one kept unit.
        unproven: The groups for which equality says nothing.
    """

    proven: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    perturbed: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)


def prove(
    trace: Trace,
    removed: Bools,
    masked: ir.Model,
    pruned: ir.Model,
    comparison: Comparison,
    backend: Backend,
    progress: Callable[[float], None] | None = None,
) -> Proof:
    """Zero one kept unit of each group in the slim network: the comparison must notice.

    A large network shows most groups on smaller pictures already, on which masked and slim are compared as well. A
    group that shows nowhere is tried again with larger random weights in one kept unit: that slim equals mask does not
    depend on the weights.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        masked: The masked network.
        pruned: The slim network.
        comparison: The comparison that has found masked and slim equal.
        backend: What runs the networks.
        progress: Called with the fraction done.

    Raises:
        VerifyFailed: Masked and slim differ where a group is read.
    """
    prover = _Prover(trace, removed, comparison, backend)
    # Of a group that is removed as a whole, nothing could have been cut by mistake.
    hidden = {group.name: group for group in trace.groups if not removed[group.units].all()}
    where: dict[str, str] = {}

    def note(found: Iterator[tuple[str, str]], instead: str | None = None) -> None:
        for name, place in found:
            where[name] = instead or place
            del hidden[name]
            if progress is not None:
                progress(1 - len(hidden) / len(trace.groups))

    note(prover.on_smaller_pictures(masked, pruned, list(hidden.values())))
    note(prover.shown(masked, pruned, list(hidden.values())))
    if hidden:
        note(prover.shown_in_branches(masked, pruned, hidden))
    for size in SIZES:
        if hidden:
            weights = perturbed(trace, removed, list(hidden.values()), size)
            networks = mask(trace, removed, weights=weights), slim(trace, removed, weights=weights)
            note(prover.shown(*networks, list(hidden.values()), optional=True), PERTURBED)
            note(prover.shown_in_branches(*networks, hidden), PERTURBED)
    if progress is not None:
        progress(1.0)
    by_place = {place: [g.name for g in trace.groups if where.get(g.name) == place] for place in (INSIDE, PERTURBED)}
    proven = [group.name for group in trace.groups if group.name not in hidden]
    return Proof(proven, by_place[INSIDE], by_place[PERTURBED], list(hidden))


AT_OUTPUTS, INSIDE, PERTURBED = "at the outputs", "inside", "perturbed"


class _Prover:
    """Compares masked and slim networks, inside as well, and tells which groups show."""

    def __init__(self, trace: Trace, removed: Bools, comparison: Comparison, backend: Backend) -> None:
        self._trace, self._removed, self._outer, self._backend = trace, removed, comparison, backend

    def on_smaller_pictures(
        self, masked: ir.Model, pruned: ir.Model, groups: Sequence[Group]
    ) -> Iterator[tuple[str, str]]:
        """The groups that show at the outputs for smaller pictures, where the networks run on them and it pays."""
        trace, outer = self._trace, self._outer
        shapes = small_pictures(trace.net.inputs)
        costly = len(groups) * sum(trace.macs(self._removed).values()) >= COSTLY
        if not costly or shapes == trace.net.inputs:
            return
        bounds, masked, pruned = index_bounds(trace), of_any_size(masked), of_any_size(pruned)
        draws = [Draw(NORMAL, random_inputs(trace.net, shapes, seed, bounds)) for seed in range(INPUTS_SMALLER)]
        with suppress(VerifyFailed, BadInput):  # a Reshape to fixed sizes, for example
            watch = outer.watch.and_inside(trace, self._removed, {})
            smaller = Comparison(trace, masked, watch, draws, outer.tolerance, self._backend)
            _, apart = smaller.judged(pruned, smaller.outputs_of(pruned, "the slim network"))
            if apart.relative <= smaller.tolerance:
                changeable = Changeable(trace, self._removed, pruned, watch, self._backend)
                yield from self._noticed(
                    changeable, smaller, [(group, ()) for group in groups], outer.names, TRIES_SMALLER
                )

    def shown_in_branches(
        self, masked: ir.Model, pruned: ir.Model, hidden: Mapping[str, Group]
    ) -> Iterator[tuple[str, str]]:
        """The groups that show where branches are forced, which the inputs may not take."""
        for _, (ours, theirs) in in_every_branch(masked, pruned):
            yield from self.shown(ours, theirs, list(hidden.values()), optional=True)

    def shown(
        self, masked: ir.Model, pruned: ir.Model, groups: Sequence[Group], optional: bool = False
    ) -> Iterator[tuple[str, str]]:
        """The groups that show, and where it is noticed that a kept unit of them is zeroed.

        Args:
            masked: The masked network.
            pruned: The slim network.
            groups: The groups to look at.
            optional: The masked network may not run, and values that hold infinite numbers are not looked at: larger
                weights may overflow, and a branch may be for other inputs.

        Raises:
            VerifyFailed: The two networks differ.
        """
        if not groups:
            return
        trace, outer = self._trace, self._outer
        places = frontiers(trace, groups, pruned)
        inside = {name: value for found in places for name, value in found.items()}
        watch = outer.watch.and_inside(trace, self._removed, inside)
        try:
            draws = outer.usual_draws[:INPUTS_INSIDE]
            inner = Comparison(trace, masked, watch, draws, outer.tolerance, self._backend)
        except VerifyFailed:
            if optional:
                return
            raise
        if outer.rounding is not None:
            inner.learn_rounding()
        compared = inner.finite if optional else None
        _, apart = inner.judged(pruned, inner.outputs_of(pruned, "the slim network"), compared)
        if apart.relative > inner.tolerance:
            raise VerifyFailed(
                f"{inner.title}: the slim network differs from the masked one by {apart.relative:.2e} at "
                f"{apart.where}, inside the network (tolerance {inner.tolerance:.0e}, rounding {inner.rounding:.0e})"
            )
        outputs = outer.names
        if compared is not None:
            outputs = [name for name in outputs if name in compared]
            places = [{name: at[name] for name in compared if name in at} for at in places]
        cost, left = len(groups) * len(pruned.graph), list(zip(groups, places, strict=True))
        if cost >= IN_PIECES:
            read = read_in_pieces(trace, self._removed, pruned, inner, groups, places, TRIES, self._backend)
            found = set(read)
            yield from ((name, INSIDE) for name in found)
            left = [(group, at) for group, at in left if group.name not in found]
        if left and cost < DEEP:
            changeable = Changeable(trace, self._removed, pruned, watch, self._backend)
            yield from self._noticed(changeable, inner, left, outputs, TRIES)

    def _noticed(
        self,
        changeable: Changeable,
        comparison: Comparison,
        groups: Iterable[tuple[Group, Collection[str]]],
        outputs: Collection[str],
        tries: int,
    ) -> Iterator[tuple[str, str]]:
        """The groups of which a kept unit shows when it is zeroed, at the outputs or at the group's own places."""
        for group, inside in groups:
            runs = (
                (changeable.run(comparison.feeds[on], change), on)
                for change in islice(changeable.zeroings(group), tries)
                for on in comparison.telling
            )
            for found, on in runs:
                if comparison.notices(found, on, outputs):
                    yield group.name, AT_OUTPUTS
                    break
                if comparison.notices(found, on, inside):
                    yield group.name, INSIDE
                    break
