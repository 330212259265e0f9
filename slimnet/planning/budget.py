"""How many units of each group go, and which: a ratio per group, or one threshold over many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.graph.units import Group, Role, Trace
from slimnet.methods.base import Normalise, by_mean
from slimnet.planning.rounding import round_counts
from slimnet.planning.widths import Bools, Counts, Floats

SCOPES = ("layer", "global", "isomorphic")


def choose(
    trace: Trace,
    scores: Sequence[Floats],
    ratio: float | Floats,
    *,
    scope: str = "layer",
    ratio_for: Sequence[tuple[str, float]] = (),
    ignore: Sequence[str] = (),
    round_to: int | str | None = None,
    coupled: bool = True,
    alike: bool = False,
    normalise: Normalise = by_mean,
) -> Bools:
    """Choose the units to remove: always those with the lowest scores of their group, never all of them.

    Args:
        trace: The trace of the network, with its groups and axes.
        scores: One vector [units] per group; low means prune. A group with NaN stays dense.
        ratio: The fraction of the removable channels to remove, in (0, 1); or [groups], one for each, where 0 leaves a
            group dense.
        scope: What the ratio is a fraction of: "layer" means every group; "global" means all groups together, by one
            threshold on comparable scores; "isomorphic" means all groups of the same structure together.
        ratio_for: Pairs (pattern, ratio): each group that a pattern names gets that ratio; the last match counts.
        ignore: The patterns of groups that stay dense.
        round_to: N rounds widths to multiples of N, "auto" to what the runtime computes fast on this CPU; None does not
            round.
        coupled: Whether to prune groups with more than one producing layer (residual streams); False leaves them dense,
            as most papers do.
        alike: Whether groups of the same structure and size keep equally many, unless a pattern names them: the layers
            of a class that has one width for all of them.
        normalise: The function that makes scores comparable between groups: `Method.normalise` of the method that gave
            them.

    A pattern is a shell pattern (``layer1.*.conv1.weight``) for the name of a group or of a tensor whose filters
    belong to it; ``layer1`` also means everything in the module ``layer1``.

    Returns:
        Which units to remove: bool [n_units].

    Raises:
        BadInput: A ratio is outside (0, 1), a scope or pattern does not exist, or nothing can be removed.
    """
    if scope not in SCOPES:
        raise BadInput(f"scope {scope!r} is not known; choose one of: {', '.join(SCOPES)}")
    if isinstance(ratio, np.ndarray):
        if scope != "layer":
            raise BadInput(f"scope {scope!r}: takes one ratio for all groups, and here each has its own; leave it out")
    else:
        _checked(ratio, "ratio")
    ratios, own = _ratios(trace, scores, ratio, ratio_for, ignore, coupled)
    kept = _by_layer(trace.groups, ratios)
    if scope != "layer":
        comparable = normalise(trace.groups, scores)
        for pool in _pools(trace.groups, (ratios > 0) & ~own, scope):
            kept[pool] = _by_threshold([comparable[g] for g in pool], float(ratio))
    if round_to is not None:
        kept = round_counts(trace, kept, ratios > 0, round_to)
    if alike:
        kept = _alike(trace.groups, kept, (ratios > 0) & ~own)
    removed = take(trace, scores, kept)
    if not removed.any():
        raise BadInput(_why_nothing(ratios, round_to))
    return removed


def exceptions(
    trace: Trace,
    scores: Sequence[Floats],
    *,
    ratio_for: Sequence[tuple[str, float]] = (),
    ignore: Sequence[str] = (),
    coupled: bool = True,
) -> tuple[Counts, Bools]:
    """What `ratio_for`, `ignore` and `coupled` fix before any budget; the arguments are those of `choose`.

    Returns:
        The number of units kept of each group, int [G], final for fixed groups; and which groups are free, bool [G].

    Raises:
        BadInput: A pattern does not exist, or no group is free.
    """
    ratios, own = _ratios(trace, scores, 0.5, ratio_for, ignore, coupled)
    free = (ratios > 0) & ~own
    if not free.any():
        raise BadInput(_why_nothing(ratios * free, None))
    return _by_layer(trace.groups, ratios), free


def take(trace: Trace, scores: Sequence[Floats], kept: Counts) -> Bools:
    """Which units to remove, bool [n_units], to keep so many of each group: those with the lowest scores."""
    removed = _lowest(trace, scores, kept)
    _keep_every_axis(trace, scores, removed)
    return removed


def _alike(groups: Sequence[Group], kept: Counts, free: Bools) -> Counts:
    """One count for all free groups of the same structure and size: of those they have, the nearest to the mean."""
    kept = kept.copy()
    classes: dict[tuple[str, int], list[int]] = {}
    for g in np.flatnonzero(free).tolist():
        classes.setdefault((groups[g].kind, len(groups[g])), []).append(g)
    for members in classes.values():
        counts = kept[members]
        kept[members] = counts[np.argmin(np.abs(counts - counts.mean()))]
    return kept


def _checked(ratio: float, option: str) -> float:
    if not 0 < ratio < 1:
        raise BadInput(f"{option} {ratio:g} is not between 0 and 1; 0.5 removes half of the channels")
    return ratio


def _why_nothing(ratios: Floats, round_to: int | str | None) -> str:
    if not ratios.any():
        return "nothing is left to remove: all removable channels are ignored, or the method cannot rank them"
    if round_to is not None:
        return f"rounding to {round_to} leaves nothing to remove; use a larger ratio or `round_to=None`"
    return "nothing can be removed: every group has a single channel"


# -- ratios and patterns -------------------------------------------------------------------------------------------


def _ratios(
    trace: Trace,
    scores: Sequence[Floats],
    ratio: float | Floats,
    ratio_for: Iterable[tuple[str, float]],
    ignore: Iterable[str],
    coupled: bool,
) -> tuple[Floats, Bools]:
    """The ratio of each group, 0 where it stays dense; and whether it has one of its own."""
    trace.check_removable()
    filters = [[group.name, *(m.tensor for m in group.members if m.role & Role.OUT)] for group in trace.groups]
    ratios = np.full(len(trace.groups), ratio)
    own = np.zeros(len(trace.groups), bool)
    for pattern, value in ratio_for:
        named = np.array([_matches(pattern, names) for names in filters])
        if not named.any():
            raise BadInput(f"ratio-for pattern {pattern!r} names no removable filters; `slimnet trace` lists them")
        ratios[named] = _checked(value, f"ratio-for {pattern!r}:")
        own |= named
    for pattern in ignore:
        named = np.array([_matches(pattern, names) for names in filters])
        # What cannot be pruned anyway may be ignored too: the classifier is the layer people name first.
        if not named.any() and not _matches(pattern, trace.param_sizes):
            raise BadInput(f"ignore pattern {pattern!r} matches nothing; `slimnet trace` lists the names")
        ratios[named] = 0
    ratios[[bool(np.isnan(values).any()) for values in scores]] = 0
    if not coupled:
        ratios[[_producers(trace, group) > 1 for group in trace.groups]] = 0
    return ratios, own


def _producers(trace: Trace, group: Group) -> int:
    """The number of weights whose filters make up the units; a depthwise one only passes them on."""
    weights = {m.tensor: m.use for m in group.members if m.role & Role.OUT}
    return sum(use.groups == 1 or trace.param_sizes[tensor][1] > 1 for tensor, use in weights.items())


def _matches(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for name in names)


# -- counts --------------------------------------------------------------------------------------------------------


def _by_layer(groups: Sequence[Group], ratios: Floats) -> Counts:
    """The number of units kept of each group: all but ceil(ratio * n), at least one."""
    sizes = np.array([len(group.units) for group in groups])
    return sizes - np.minimum(_ceil(ratios * sizes), sizes - 1)


def _ceil(count: Any) -> Any:
    """The ceiling of a product of a ratio and a size: 0.07 * 100 is 7.000000000000001 and means 7."""
    return np.ceil(count - 1e-9).astype(int)


def _pools(groups: Sequence[Group], open_: Bools, scope: str) -> list[list[int]]:
    """The numbers of the groups that share a threshold, threshold by threshold."""
    pools: dict[str, list[int]] = {}
    for g in np.flatnonzero(open_).tolist():
        pools.setdefault(groups[g].kind if scope == "isomorphic" else "", []).append(g)
    return list(pools.values())


def _by_threshold(scores: Sequence[Floats], ratio: float) -> Counts:
    """The number of units kept of each group when the lowest `ratio` of all units go; the best of each group stays."""
    sizes = np.array([len(values) for values in scores])
    owner = np.repeat(np.arange(len(scores)), sizes)
    values = np.concatenate(scores)
    values[np.cumsum(sizes) - sizes + [int(v.argmax()) for v in scores]] = np.inf
    count = min(int(_ceil(ratio * len(values))), len(values) - len(scores))
    lowest = np.argsort(values, kind="stable")[:count]
    return sizes - np.bincount(owner[lowest], minlength=len(scores))


# -- units ---------------------------------------------------------------------------------------------------------


def _lowest(trace: Trace, scores: Sequence[Floats], kept: Counts) -> Bools:
    removed = np.zeros(trace.n_units, bool)
    for group, values, count in zip(trace.groups, scores, kept, strict=True):
        order = np.argsort(values, kind="stable")
        removed[group.units[order[: len(order) - count]]] = True
    return removed


def _keep_every_axis(trace: Trace, scores: Sequence[Floats], removed: Bools) -> None:
    """Bring back the best unit of an axis that would be empty."""
    comparable = np.full(trace.n_units, -np.inf)
    for group, values in zip(trace.groups, by_mean(trace.groups, scores), strict=True):
        comparable[group.units] = values
    for axis in trace.axes:
        units = axis.units
        if len(units) and (units >= 0).all() and removed[units].all():
            removed[units[comparable[units].argmax()]] = False
