"""What a pruning method is, and the register that finds it by name."""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

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


class Method(ABC):
    """Ranks units from named tensors and groups; it never sees ONNX.

    A method is a dataclass, registered under the name the user types; its fields are its hyper-parameters and become
    options of the command line. One that acts while the network trains is a `training.TrainingMethod`.
    """

    @abstractmethod
    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        """One float64 vector [units] per group; units with the lowest scores are removed first."""

    def normalise(self, groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> Scores:
        """Scores that may be compared between groups, for one threshold over the whole network."""
        return by_mean(groups, scores)


def by_mean(groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> Scores:
    """Scores relative to the mean of their group.

    Norms and distances grow with the size of a filter and with the scale its layer happened to be initialised with;
    neither says anything about importance. A group whose scores are all zero stays zero.
    """
    return [values / (values.mean() or 1.0) for values in scores]


def unranked(groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> list[str]:
    """Names of the groups that the method could not rank; they stay dense."""
    return [group.name for group, values in zip(groups, scores, strict=True) if np.isnan(values).any()]


#: Marks fields of a method that are no hyper-parameters: what it is bound to.
CONTEXT = {"context": True}

_METHODS: dict[str, type[Method]] = {}
#: Methods that need torch, and the modules that register them when one is asked for.
_LATER = {
    "greg-1": "slimnet.methods.greg",
    "greg-2": "slimnet.methods.greg",
    "group-hs": "slimnet.methods.group_hs",
    "group-lasso": "slimnet.methods.group_lasso",
    "hoyer": "slimnet.methods.hoyer",
    "hoyer-square": "slimnet.methods.hoyer",
    "increg": "slimnet.methods.increg",
    "spp": "slimnet.methods.spp",
    "transformed-l1": "slimnet.methods.transformed_l1",
}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: the method is available under this name."""

    def add(cls: type[Method]) -> type[Method]:
        _METHODS[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Names of all methods."""
    return list(dict.fromkeys((*_METHODS, *_LATER)))


def create(name: str, /, *context: Any, **options: Any) -> Method:
    """A method with some of its hyper-parameters set; `context` is what a training method is bound to.

    Raises:
        BadInput: no method has this name, or it has no such hyper-parameter.
    """
    cls = find(name)
    known = hyperparameters(cls)
    for option, value in options.items():
        if option not in known:
            raise BadInput(f"method {name!r} has no option {option!r}; it takes: {', '.join(known) or 'none'}")
        kinds = _kinds(getattr(cls, option, value))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadInput(f"method {name!r}: option {option}={value} is not of type {kinds[0].__name__}")
    return cls(*context, **options)


def _kinds(default: Any) -> tuple[type, ...]:
    """What may be given where a hyper-parameter has this default."""
    return (float, int) if isinstance(default, float) else (type(default),)


def is_training(name: str) -> bool:
    """Whether a method acts while the network trains. Raises BadInput for an unknown one."""
    cls = find(name)
    return len(hyperparameters(cls)) < len(_fields(cls))


def find(name: str) -> type[Method]:
    """The class registered under a name.

    Raises:
        BadInput: no method has this name.
    """
    if name in _LATER:
        importlib.import_module(_LATER[name])
    if name not in _METHODS:
        raise BadInput(f"method {name!r} is not known; choose one of: {', '.join(names())}")
    return _METHODS[name]


def hyperparameters(cls: type[Method]) -> list[str]:
    """Names of a method's hyper-parameters."""
    return [f.name for f in _fields(cls) if "context" not in f.metadata]


def _fields(cls: type[Method]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
