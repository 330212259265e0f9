"""Why a layer is as large as it is: the answer a report gives for every weight, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Layers named in one sentence.
_NAMED = 6
#: Below this efficiency, most of a layer's saved MACs brought no time.
POOR = 0.5

Json = Mapping[str, Any]


@dataclass(frozen=True)
class LayerStory:
    """One weight of the network.

    Attributes:
        name: The name of the layer: its weight's name without ".weight".
        op: The operator that uses the weight.
        filters, channels: The sizes of the output and the input side, before and after; None where it has no such side.
        macs, ms: The multiply-adds and the time in ms, before and after; None where they are not known.
        efficiency: The latency speedup over the quotient of its MACs; None where it was not measured.
        why: The reasons for its sizes, one sentence each.
        pinned: Whether filters or channels of it are pinned.
    """

    name: str
    op: str
    filters: tuple[int, int] | None
    channels: tuple[int, int] | None
    macs: tuple[float | None, float | None]
    ms: tuple[float | None, float | None]
    efficiency: float | None
    why: tuple[str, ...]
    pinned: bool


def stories(content: Json) -> list[LayerStory]:
    """The story of every weight in a report.json, in the order of the network."""
    groups = {group["name"]: group for group in content["groups"]}
    timed = {layer["name"]: layer for layer in (content.get("bench") or {}).get("layers", ())}
    producers: dict[str, list[str]] = {}
    for weight in content.get("weights", ()):
        for name in _side(weight, "out").get("groups", ()):
            producers.setdefault(name, []).append(plain(weight["name"]))
    return [_story(w, content, groups, producers, timed.get(plain(w["name"]))) for w in content.get("weights", ())]


def timed_layers(content: Json) -> list[Json]:
    """The layers of the profile whose MACs and times are both known, before and after."""
    layers = (content.get("bench") or {}).get("layers", ())
    known = [all(layer["speedup"].get(key) for key in ("flops", "latency")) for layer in layers]
    return [layer for layer, both in zip(layers, known, strict=True) if both and layer["ms"]["before"]]


def plain(name: str) -> str:
    """The name of a weight as that of its layer."""
    return name.removesuffix(".weight")


def _story(
    weight: Json, content: Json, groups: Mapping[str, Json], producers: Mapping[str, Sequence[str]], timed: Json | None
) -> LayerStory:
    name, out, in_ = plain(weight["name"]), _side(weight, "out"), _side(weight, "in")
    why = [*_filters(name, out, content, groups, producers), *_channels(in_, groups), *_time(timed)]
    return LayerStory(
        name=name,
        op=weight["op"],
        filters=(out["before"], out["after"]) if out else None,
        channels=(in_["before"], in_["after"]) if in_ else None,
        macs=_pair(timed, "macs"),
        ms=_pair(timed, "ms"),
        efficiency=timed["speedup"]["efficiency"] if timed else None,
        why=tuple(why),
        pinned=bool(out.get("pinned")),
    )


def _side(weight: Json, role: str) -> Json:
    return next((axis for axis in weight["axes"] if axis["role"] == role), {})


def _pair(timed: Json | None, key: str) -> tuple[float | None, float | None]:
    return (timed[key]["before"], timed[key]["after"]) if timed else (None, None)


def _filters(
    name: str, axis: Json, content: Json, groups: Mapping[str, Json], producers: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """What decides the output side."""
    for pin in axis.get("pinned", ()):
        yield f"{_some(pin['units'], axis['before'], 'filter')} must stay: {because(pin)}."
    for group in (groups[g] for g in axis.get("groups", ()) if g in groups):
        others = [other for other in producers.get(group["name"], ()) if other != name]
        kept = f"{group['after']:,} of {group['before']:,} units of group {plain(group['name'])} are kept"
        if others:
            met = f"its filters are added to or joined with those of {_listed(others)}"
            yield f"{kept}; {met}, and can only be removed together."
        else:
            yield f"{kept}."
        yield from _decision(group, content)


def _decision(group: Json, content: Json) -> Iterator[str]:
    """Why so many units of a group were removed and not more."""
    noted = [note for note in content.get("notes", ()) if note.startswith(f"{group['name']}: ")]
    yield from (f"{note.removeprefix(group['name'] + ': ').capitalize()}." for note in noted)
    wanted, how = _wanted(group, content), content.get("how") or {}
    if group["after"] == group["before"] and not noted:
        yield _untouched(group, content)
    elif wanted is not None and wanted != group["after"]:
        rounding = how.get("round_to")
        reason = "a width that the runtime runs fast" if rounding == "auto" else f"multiples of {rounding}"
        yield f"The ratio {how['ratio']:g} alone would keep {wanted:,}; rounding to {reason} gave {group['after']:,}."
    if group.get("proven") is False:
        yield "Unproven: no kept unit changes the output visibly, so equality says nothing here."


def _untouched(group: Json, content: Json) -> str:
    how = content.get("how") or {}
    if content.get("target"):
        return "The plan keeps all of it: elsewhere as much time or size costs less importance."
    reasons = {
        "it was ignored": how.get("ignore"),
        "it may be coupled": how.get("coupled") is False,
        "its width was rounded up": how.get("round_to") is not None,
        "its units rank above the common threshold": how.get("scope") in ("global", "isomorphic"),
    }
    named = " or ".join(reason for reason, holds in reasons.items() if holds)
    return f"The plan takes nothing from it: {named or 'nothing in it was to be removed'}."


def _wanted(group: Json, content: Json) -> int | None:
    """The number of units the ratio alone would keep, where one ratio applied to every group and was then rounded."""
    how = content.get("how") or {}
    ratio, rounded = how.get("ratio"), how.get("round_to") is not None
    if not (isinstance(ratio, float) and how.get("scope") == "layer" and rounded and group.get("scores")):
        return None
    if content.get("target") or how.get("ratio_for") or how.get("ignore") or how.get("coupled") is False:
        return None
    return int(group["before"] - min(math.ceil(ratio * group["before"] - 1e-9), group["before"] - 1))


def _channels(axis: Json, groups: Mapping[str, Json]) -> Iterator[str]:
    """What decides the input side."""
    if not axis:
        return
    for pin in axis["pinned"]:
        yield f"{_some(pin['units'], axis['before'], 'input channel')} must stay: {because(pin)}."
    names = [plain(name) for name in axis["groups"] if name in groups]
    if names:
        gap = axis["before"] - axis["after"]
        removed = f"{gap:,} channels were" if gap > 1 else "one channel was" if gap else "none was"
        yield f"Reads {axis['after']:,} of {axis['before']:,} channels: {removed} removed with group {_listed(names)}."


def _time(timed: Json | None) -> Iterator[str]:
    speedup = (timed or {}).get("speedup") or {}
    measured, promised, efficiency = (speedup.get(key) for key in ("latency", "flops", "efficiency"))
    if efficiency is not None and efficiency < POOR:
        fell = f"Its MACs fell {promised:.2g}x, its latency only {measured:.2g}x"
        yield f"{fell}: most of what was saved brought no time."


def because(pin: Json) -> str:
    """A pin in words."""
    op = "" if pin["op"] in ("input", "output") else pin["op"]
    at = " ".join(part for part in (op, pin["node"]) if part)
    return f"{at} {pin['why']}" if at else str(pin["why"])


def _some(count: int, total: int, noun: str) -> str:
    return f"All {total:,} {noun}s" if count >= total else f"{count:,} of {total:,} {noun}s"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
