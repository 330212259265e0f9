"""The table of operators: the rule of each, and what else is known of it, by domain, name and opset version."""

from __future__ import annotations

import enum
import re
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from operator import attrgetter
from typing import TYPE_CHECKING

import onnx_ir as ir

from slimnet.common.entry_points import foreign, installed
from slimnet.common.errors import BadInput

if TYPE_CHECKING:
    from slimnet.graph.op import Rule

#: The entry point group under which an installed distribution offers rules of its own.
ENTRY_POINTS = "slimnet.rules"
#: The standard's own operators, which a file may call "ai.onnx" too.
STANDARD = ""


class Trait(enum.Flag):
    """What is known of an operator beside its rule, for whoever looks at a graph without tracing it."""

    #: Multiplies its input with weights and sums up: a layer, as opposed to glue.
    LAYER = enum.auto()
    #: Slides a kernel over its input, whose channels are axis 1.
    CONVOLUTION = enum.auto()
    #: Multiplies two matrices.
    PRODUCT = enum.auto()
    #: Makes an activation.
    NONLINEAR = enum.auto()
    #: Scales or shifts each element: what may stand between a gate, such as the sigmoid in x * sigmoid(x), and the
    #: product that it is made for.
    SCALES = enum.auto()
    #: Its only output has the shape and type of its first input.
    POINTWISE = enum.auto()
    #: Moves elements without computing: what is known of an element holds wherever it is moved to.
    MOVES = enum.auto()
    #: Puts out elements of its inputs as they are, so that the codes of quantised numbers keep their meaning.
    PICKS = enum.auto()
    #: Integers that come out are among those of the first input: indices pass as indices.
    PASSES_INDICES = enum.auto()
    #: Its second input holds flat positions in a tensor of as many channels as its first, and moves with them.
    READS_POSITIONS = enum.auto()
    #: Its second input holds positions on an axis of its first.
    LOOKS_UP = enum.auto()
    #: Puts out the part of its first input that its others say.
    READS_PART = enum.auto()
    #: Says of two numbers which is larger, or whether they are equal.
    COMPARES = enum.auto()
    #: Only the sizes of its input decide what it puts out.
    MEASURES = enum.auto()
    #: Not every change of its inputs shows in its output: it rounds, picks, saturates, or is undefined somewhere.
    HIDES = enum.auto()


@dataclass(frozen=True)
class Entry:
    """What is known of an operator from one opset version of its domain on.

    Attributes:
        since: The first opset version this holds for.
        rule: The function that follows the operator's channels; None if it has traits only, and its inputs are pinned.
        traits: What else is known of the operator.
    """

    since: int
    rule: Rule | None
    traits: Trait


_NONE = Trait(0)
_TABLE: dict[tuple[str, str], list[Entry]] = {}


def rule(*operators: str, domain: str = STANDARD, since: int = 1, traits: Trait = _NONE) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operators.

    Args:
        operators: The names of operators of one domain.
        domain: The operators' domain, such as "com.microsoft"; "" and "ai.onnx" are the standard's own.
        since: The first opset version of the domain that the rule is for. Of several rules of an operator, the newest
            that is not above the graph's opset import wins.
        traits: What else is known of the operators.
    """

    def register(function: Rule) -> Rule:
        _add(operators, domain, Entry(since, function, traits))
        return function

    return register


def describe(*operators: str, domain: str = STANDARD, since: int = 1, traits: Trait) -> None:
    """Register traits of operators that have no rule; a trace pins their inputs."""
    _add(operators, domain, Entry(since, None, traits))


def _add(operators: tuple[str, ...], domain: str, entry: Entry) -> None:
    for name in operators:
        entries = _TABLE.setdefault((_plain(domain), name), [])
        if any(other.since == entry.since for other in entries):
            where = f" of {domain}" if _plain(domain) else ""
            raise ValueError(f"{name}{where} has a rule since version {entry.since} already")
        insort(entries, entry, key=attrgetter("since"))


def _plain(domain: str) -> str:
    return STANDARD if domain == "ai.onnx" else domain


def entry_of(node: ir.Node) -> Entry | None:
    """What is registered for a node: the newest entry not above the opset its graph imports; None if nothing is."""
    _load_all()
    entries = _TABLE.get((_plain(node.domain), node.op_type), ())
    if len(entries) == 1 and entries[0].since == 1:
        return entries[0]
    version = opset_of(node)
    return next((e for e in reversed(entries) if version is None or e.since <= version), None)


def traits_of(node: ir.Node) -> Trait:
    """The traits of a node's operator; none for an operator that nobody registered."""
    entry = entry_of(node)
    return _NONE if entry is None else entry.traits


def traits_of_operator(name: str, domain: str = STANDARD) -> Trait:
    """The traits of an operator in the newest version that is registered."""
    _load_all()
    entries = _TABLE.get((_plain(domain), name))
    return entries[-1].traits if entries else _NONE


def opset_of(node: ir.Node) -> int | None:
    """Opset version in which a node's graph imports the node's domain; None where it does not say."""
    imports = {} if node.graph is None else node.graph.opset_imports
    version = imports.get(_plain(node.domain))
    return imports.get("ai.onnx") if version is None and not _plain(node.domain) else version


def names_a_layer(operator: str) -> bool:
    """Whether a name, which may be a runtime's own for a fused operator ("FusedConv"), holds the name of a layer."""
    return _layers().search(operator) is not None


@cache
def _layers() -> re.Pattern[str]:
    _load_all()
    names = {name for (_, name), entries in _TABLE.items() if any(Trait.LAYER in e.traits for e in entries)}
    return re.compile("|".join(map(re.escape, sorted(names))))


# -- rules from outside ----------------------------------------------------------------------------------------------


@cache
def _load_all() -> None:
    """Load the rules of this package, and once those that installed distributions offer.

    Raises:
        BadInput: A distribution's rules cannot be loaded.
    """
    import slimnet.graph.rules  # noqa: F401  (its families register themselves)

    for point in installed(ENTRY_POINTS):
        _load(point)


def _load(point: EntryPoint) -> None:
    """Import what an entry point names, a module or a function that is called, and keep its rules if it succeeds."""
    before = {key: list(entries) for key, entries in _TABLE.items()}
    try:
        with foreign(point, "rules for operators"):
            found = point.load()
            if callable(found):
                found()
    except BadInput:
        _TABLE.clear()
        _TABLE.update(before)
        raise
