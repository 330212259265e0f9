"""All pruning methods by name: the one list from which help texts, the README's tables and the studies are made.

Nothing heavy is imported here; a method's class is loaded when the method is used (see `lookup.find`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a method ranks by, or how it decides; the value is the heading under which help texts list it."""

    WEIGHTS = "From the weights"
    DATA = "From data"
    TRAINING = "Training"
    SINGLE = "Single weights"

    @property
    def trains(self) -> bool:
        """Whether methods of this kind act while the network trains, and so need torch."""
        return self in (Kind.TRAINING, Kind.SINGLE)


@dataclass(frozen=True)
class Entry:
    """One method as users see it.

    Attributes:
        name: The name that users type.
        kind: What it ranks by.
        summary: What it does, in one line that follows the name.
        home: Where its class lives, MODULE.CLASS below `slimnet.methods`; empty for classes added by `register`.
        aliases: Earlier names, which keep working.
        compared: Whether `slimnet analyze` compares it with others: the criteria of Huang et al. 2021, Table 1, in
            whose order they stand.
    """

    name: str
    kind: Kind
    summary: str
    home: str = ""
    aliases: tuple[str, ...] = ()
    compared: bool = False


_BUILT_IN = (
    Entry("l1", Kind.WEIGHTS, "sum of the absolute weights of a filter", "criteria.L1", compared=True),
    Entry("l2", Kind.WEIGHTS, "Euclidean norm of a filter", "criteria.L2", compared=True),
    Entry("fermat", Kind.WEIGHTS, "distance to the geometric median of the filters", "criteria.Fermat", compared=True),
    Entry("gm", Kind.WEIGHTS, "sum of the distances to the other filters", "criteria.GeometricMedian", compared=True),
    Entry("bn-gamma", Kind.WEIGHTS, "scale of the batch norm behind a filter", "criteria.BatchNormScale",
          compared=True),
    Entry("bn-beta", Kind.WEIGHTS, "bias of the batch norm behind a filter", "criteria.BatchNormBias", compared=True),
    Entry("random", Kind.WEIGHTS, "random numbers, a baseline", "criteria.Random"),
    Entry("largest", Kind.WEIGHTS, "the largest l1 norms go first, a baseline", "criteria.LargestFirst", ("max",)),
    Entry("apoz", Kind.DATA, "fraction of a channel's activations that are not zero", "from_data.ActiveFraction",
          compared=True),
    Entry("entropy", Kind.DATA, "entropy of a channel's mean activation", "from_data.Entropy", compared=True),
    Entry("taylor-l1", Kind.DATA, "l1 norm of gradient times weight", "from_data.TaylorL1", compared=True),
    Entry("taylor-l2", Kind.DATA, "l2 norm of gradient times weight", "from_data.TaylorL2", compared=True),
    Entry("fisher", Kind.DATA, "rise of the loss without a filter, by the Fisher information: optimal brain damage",
          "from_data.OptimalBrainDamage", ("obd",)),
    Entry("obs", Kind.DATA, "what is lost once the channels that stay have made up for it; needs no labels",
          "from_data.Obs"),
    Entry("greg-1", Kind.TRAINING, "a growing penalty on filters that are picked at the start", "greg.GReg1"),
    Entry("greg-2", Kind.TRAINING, "a growing penalty that also picks the filters, by how they resist it",
          "greg.GReg2"),
    Entry("group-hs", Kind.TRAINING, "the Hoyer-Square measure over filters and channels", "group_hs.GroupHS"),
    Entry("group-lasso", Kind.TRAINING, "the sum of filter norms", "group_lasso.GroupLasso"),
    Entry("spp", Kind.TRAINING, "pruning probabilities that follow the rank of each filter", "spp.SPP"),
    Entry("increg", Kind.TRAINING, "penalties that follow the rank of each filter", "increg.IncReg"),
    Entry("hoyer", Kind.SINGLE, "the Hoyer measure of each tensor", "hoyer.Hoyer"),
    Entry("hoyer-square", Kind.SINGLE, "the Hoyer-Square measure of each tensor", "hoyer.HoyerSquare"),
    Entry("transformed-l1", Kind.SINGLE, "the transformed l1 penalty", "transformed_l1.TransformedL1"),
)  # fmt: skip

_ENTRIES = {entry.name: entry for entry in _BUILT_IN}


def catalog() -> list[Entry]:
    """All methods: the built-in ones kind by kind, then those that `register` has added."""
    return list(_ENTRIES.values())


def names(*kinds: Kind) -> list[str]:
    """The names of all methods, or of those of some kinds."""
    return [entry.name for entry in catalog() if not kinds or entry.kind in kinds]


def compared() -> list[str]:
    """The names of the criteria that are compared with each other, in the order of the paper's table."""
    return [entry.name for entry in catalog() if entry.compared]


def canonical(name: str) -> str:
    """The present name of a method; a name that is no alias is returned as it is. Nothing is loaded."""
    return next((entry.name for entry in catalog() if name in entry.aliases), name)


def entry_of(name: str) -> Entry | None:
    """The entry with this name or alias, or None."""
    return _ENTRIES.get(canonical(name))


def add(entry: Entry) -> None:
    """Add a method, or put it in the place of the one of that name."""
    _ENTRIES[entry.name] = entry


def choices(kinds: Sequence[Kind] = tuple(Kind)) -> str:
    """The names kind by kind, as help texts list them: "From the weights: l1, l2. From data: apoz."."""
    return " ".join(f"{kind}: {', '.join(names(kind))}." for kind in kinds)
