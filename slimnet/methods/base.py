"""What a pruning method is: a criterion that ranks by weights, or one that ranks by statistics of data."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from slimnet.common.errors import BadInput

if TYPE_CHECKING:
    from slimnet.graph.units import Group

#: Parameters of a network by name; any dtype that converts to float32.
Params: TypeAlias = Mapping[str, npt.NDArray[Any]]
#: One vector [units] per group, in the order of `Group.units`; low means prune, NaN means "cannot be ranked".
Scores: TypeAlias = list[npt.NDArray[np.float64]]
#: Makes the scores of different groups comparable.
Normalise: TypeAlias = Callable[["Sequence[Group]", Sequence[npt.NDArray[np.float64]]], Scores]


#: What a `DataMethod` may need to see.
NEEDS = ("activations", "gradients", "fisher", "losses")


class Method(ABC):
    """A criterion: it ranks units from named tensors and groups, and never sees ONNX.

    A method is a dataclass; its fields are its hyper-parameters, which `--option NAME=VALUE` sets. The built-in ones
    have a name each (`registry`), others are found by FILE.py:CLASS. A method that looks at data is a `DataMethod`, one
    that acts while the network trains a `training.TrainingMethod`.

    Attributes:
        adds_up: Whether the scores of units that go add up to a loss that compares between groups; then widths for a
            target are those of the smallest loss.
    """

    adds_up: ClassVar[bool] = False

    @abstractmethod
    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        """One float64 vector [units] per group; units with the lowest scores are removed first."""

    def normalise(self, groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> Scores:
        """Scores that may be compared between groups, for one threshold over the whole network."""
        return by_mean(groups, scores)


class DataMethod(Method):
    """A criterion that ranks by statistics of the network on data, which somebody else measures.

    Attributes:
        needs: The kind of statistics, one of `NEEDS`: "activations" (`ActivationStatistics` by group name), "gradients"
            (the mean gradient of the loss by parameter name, in its shape), "fisher" (the mean square of the gradients
            of single samples, likewise) or "losses" (what the removal of each unit adds to the loss, by group
            name, once what stays has made up for it).
        statistics: Those statistics, which are set before `score` is called; None until then.
    """

    needs: ClassVar[str]
    statistics: Mapping[str, Any] | None = None

    def measured(self) -> Mapping[str, Any]:
        """The statistics. Raises BadInput if there are none."""
        if self.statistics is None:
            raise BadInput("this method ranks by what it sees in data: it needs `data`, such as `data` digits")
        return self.statistics

    def measurement_options(self) -> dict[str, Any]:
        """How the statistics are to be measured, as keyword arguments of the function that measures them."""
        return {}

    def normalise(self, groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> Scores:
        """The scores themselves: they have the same unit in every layer."""
        return list(scores)


def scored(method: Method, params: Params, groups: Sequence[Group]) -> Scores:
    """The scores that a method gives, as float64.

    Raises:
        BadInput: The method fails, or they are not one vector [units] per group, as `Method.score` has to give them.
    """
    who = f"{type(method).__name__}.score()"
    try:
        found = list(method.score(params, groups))
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        raise BadInput(
            f"{who}: fails ({type(error).__name__}: {error}); it has to give one vector per group"
        ) from error
    if len(found) != len(groups):
        raise BadInput(f"{who}: gives {len(found)} vectors for {len(groups)} groups; give one for each")
    for group, values in zip(groups, found, strict=True):
        if np.shape(values) != (len(group),):
            raise BadInput(f"{who}: gives shape {list(np.shape(values))} for group {group.name}; give [{len(group)}]")
    return [np.asarray(values, np.float64) for values in found]


def by_mean(groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> Scores:
    """Scores relative to the mean of their group.

    Norms and distances grow with the size of a filter and with the scale its layer happened to be initialised with;
    neither says anything about importance. A group whose scores are all zero stays zero.
    """
    return [values / (values.mean() or 1.0) for values in scores]


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a training method asks which units go: one bool [units] per group for its scores.

    A plain function of the scores serves a method too; a budget is also given how scores of different groups compare.
    """

    take: Callable[[Scores, Normalise], list[npt.NDArray[np.bool_]]]

    def __call__(self, scores: Scores, normalise: Normalise = by_mean) -> list[npt.NDArray[np.bool_]]:
        return self.take(scores, normalise)


def unranked(groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> list[str]:
    """Names of the groups that the method could not rank; they stay dense."""
    return [group.name for group, values in zip(groups, scores, strict=True) if np.isnan(values).any()]


#: Marks fields of a method that are no hyper-parameters: what it is bound to.
CONTEXT = {"context": True}


def hyperparameters(cls: type[Method]) -> list[str]:
    """Names of a method's hyper-parameters."""
    return [f.name for f in fields(cls) if "context" not in f.metadata]


def fields(cls: type[Method]) -> tuple[dataclasses.Field[Any], ...]:
    """All fields of a method, those of what it is bound to included; none where it is no dataclass."""
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
