"""What the figures of an analysis mean, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slimnet.analysis.criteria import AcrossGroups, GroupStudy, Study
from slimnet.analysis.gaussian import disagree
from slimnet.analysis.similarity import FEWEST

#: Coefficient of variation below which a criterion hardly distinguishes filters.
_INDISTINCT = 0.05
#: Fraction of equal scores from which a ranking is mostly arbitrary.
_EQUAL = 0.5
#: Fraction of its units that a group must lose to count as erased.
_ERASED = 0.9
#: Rank correlation from which criteria count as alike.
_ALIKE = 0.9
#: How far l1 and l2 must fall apart across layers, compared with inside them.
_APART = 0.2
#: Criteria of the norm family, which the paper found to be nearly interchangeable inside a layer.
NORMS = ("l1", "l2", "fermat", "gm")
#: Pairs of layers named in one notice.
_NAMED = 3


@dataclass(frozen=True)
class Notice:
    """A remark on an analysis that a user should know.

    Attributes:
        kind: "few", "indistinct", "equal", "erased", "mixed", "alike", "read" (how the
            network was read) or "missing" (a package).
        text: One or two plain sentences.
        groups, criteria: The names of the groups and of the criteria that the remark is about.
    """

    kind: str
    text: str
    groups: tuple[str, ...]
    criteria: tuple[str, ...]


def notices(study: Study) -> list[Notice]:
    """What a user should know before choosing a criterion and a scope, what concerns most of the network first.

    Layers to which the same remark applies share a notice.
    """
    return [*_mixed(study), *_alike(study), *_erased(study), *_equal_scores(study), *_indistinct(study), *_few(study)]


def _few(study: Study) -> Iterator[Notice]:
    few = [group for group in study.groups if group.units < FEWEST]
    if few:
        text = f"the filters of {_named(few)} are fewer than {FEWEST}, too few to compare rankings"
        yield Notice("few", text, _names(few), ())


def _equal_scores(study: Study) -> Iterator[Notice]:
    for criteria, groups in _sharing({g.name: tuple(_equal(g)) for g in study.groups}, study).items():
        counts = [f"{max(_equal(g).values())} of the {g.units} filters of {g.name}" for g in groups]
        text = f"{_listed(criteria)} {'give' if len(criteria) > 1 else 'gives'} the same score to {_shortened(counts)}"
        yield Notice("equal", f"{text}: which of them go is arbitrary", _names(groups), criteria)


def _equal(group: GroupStudy) -> dict[str, int]:
    """Criteria that give one score to most of the filters, and to how many."""
    if group.units < FEWEST:
        return {}
    counts = {name: int(np.unique(scores, return_counts=True)[1].max()) for name, scores in group.scores.items()}
    return {name: count for name, count in counts.items() if count >= _EQUAL * group.units}


def _indistinct(study: Study) -> Iterator[Notice]:
    for criteria, groups in _sharing({g.name: _weak(g) for g in study.groups}, study).items():
        parts = [group.applicability[name] for group in groups for name in criteria]
        expected = [math.sqrt(part.expected) for part in parts if part.expected is not None]
        random = f"; random weights give up to {max(expected):.1%}" if expected else ""
        yield Notice(
            "indistinct", f"{_listed(criteria)} cannot tell the filters of {_named(groups)} apart: their scores differ "
            f"by {max(math.sqrt(part.by_square) for part in parts):.1%} (standard deviation over mean){random}",
            _names(groups), criteria
        )  # fmt: skip


def _weak(group: GroupStudy) -> tuple[str, ...]:
    """Criteria whose scores hardly differ."""
    equal = _equal(group)
    return tuple(name for name, a in group.applicability.items()
                 if a.by_square < _INDISTINCT**2 and name not in equal and group.units >= FEWEST)  # fmt: skip


def _erased(study: Study) -> Iterator[Notice]:
    """Layers that one threshold would take nearly all of: on plain scores, or even on those of `--scope global`."""
    raw, relative = (
        [_losses(part, k, g.units, study.ratio) for k, g in enumerate(study.groups)]
        for part in (study.raw, study.normalised)
    )
    for still in (False, True):
        criteria = {
            g.name: tuple(name for name in raw[k] if (name in relative[k]) == still and name not in _equal(g))
            for k, g in enumerate(study.groups)
        }
        for names, groups in _sharing(criteria, study).items():
            places = [k for k, g in enumerate(study.groups) if criteria[g.name] == names]
            lost = [max(raw[k][name] for name in names) for k in places]
            counts = [f"{n} of the {g.units} filters of {g.name}" for n, g in zip(lost, groups, strict=True)]
            yield Notice("erased", _erased_text(names, counts, study.ratio, still), _names(groups), names)


def _erased_text(criteria: Sequence[str], counts: Sequence[str], ratio: float, still: bool) -> str:
    where = f"would take {_shortened(counts)} at ratio {ratio:g}"
    if still:
        return f"--scope global with {_listed(criteria)} {where}; use --scope isomorphic or layer"
    return (
        f"one threshold over all layers on plain {_listed(criteria)} scores {where}; "
        "normalise per layer, as --scope global does, or use --scope isomorphic"
    )


def _losses(part: AcrossGroups, number: int, units: int, ratio: float) -> dict[str, int]:
    """Criteria by which one threshold takes nearly all of a group, and how many units."""
    counts = {name: counts[number] for name, counts in part.removed.items()}
    least = max(_ERASED, ratio) * units
    return {name: count for name, count in counts.items() if count is not None and count >= least}


def _mixed(study: Study) -> Iterator[Notice]:
    """Where l1 and l2 agree inside layers but not across them."""
    i, j = study.criteria.index("l1"), study.criteria.index("l2")
    inside = [group.spearman[i, j] for group in study.groups if not np.isnan(group.spearman[i, j])]
    across = study.raw.spearman[i, j]
    if not inside or not across < float(np.median(inside)) - _APART:
        return
    order = sorted((g for g in study.groups if g.rms > 0), key=lambda g: -g.units)
    pairs = [(a, b) for k, a in enumerate(order) for b in order[k + 1 :] if disagree((a.size, a.rms), (b.size, b.rms))]
    named = "; ".join(f"{a.name} ({a.size} weights a filter) and {b.name} ({b.size})" for a, b in pairs[:_NAMED])
    why = f"; such pairs of layers are {named}" if named else ""
    yield Notice(
        "mixed", f"l1 and l2 rank alike inside layers (median rank correlation {np.median(inside):.2f}) but not across "
        f"them ({across:.2f}): filters of different sizes are compared, and the larger ones gain by l1{why}",
        tuple(dict.fromkeys(g.name for pair in pairs[:_NAMED] for g in pair)), ("l1", "l2")
    )  # fmt: skip


def _alike(study: Study) -> Iterator[Notice]:
    """In how many layers the norms are interchangeable."""
    rows = [k for k, name in enumerate(study.criteria) if name in NORMS]
    worst = [float(group.spearman[np.ix_(rows, rows)].min()) for group in study.groups]
    known = [value for value in worst if not math.isnan(value)]
    alike = sum(value > _ALIKE for value in known)
    if alike:
        names = [study.criteria[k] for k in rows]
        yield Notice(
            "alike", f"{_listed(names)} rank the filters of {alike} of {len(known)} layers alike (rank correlation "
            f"above {_ALIKE}): choosing between them changes little there", (), tuple(names)
        )  # fmt: skip


def _sharing(criteria: Mapping[str, tuple[str, ...]], study: Study) -> dict[tuple[str, ...], list[GroupStudy]]:
    """The groups to which the same, not empty, set of criteria applies."""
    found: dict[tuple[str, ...], list[GroupStudy]] = {}
    for group in study.groups:
        if criteria[group.name]:
            found.setdefault(criteria[group.name], []).append(group)
    return found


def _names(groups: Sequence[GroupStudy]) -> tuple[str, ...]:
    return tuple(group.name for group in groups)


def _named(groups: Sequence[GroupStudy]) -> str:
    return _shortened(_names(groups))


def _shortened(parts: Sequence[str]) -> str:
    """The first few filters of layers, and of how many more."""
    if len(parts) <= _NAMED:
        return _listed(parts)
    return f"{', '.join(parts[:_NAMED])} and of {len(parts) - _NAMED} more layers"


def _listed(names: Sequence[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last
