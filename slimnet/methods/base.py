"""What a pruning method is, and the register that finds it by name."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from slimnet.errors import BadInput

if TYPE_CHECKING:
    from slimnet.graph.units import Group

#: Parameters of a network by name; any dtype that converts to float32.
Params: TypeAlias = Mapping[str, npt.NDArray[Any]]
#: One vector [units] per group, in the order of `Group.units`; low means prune, NaN means "cannot be ranked".
Scores: TypeAlias = list[npt.NDArray[np.float64]]


class Method(ABC):
    """Ranks units from named tensors and groups; it never sees ONNX.

    A method is a dataclass, registered under the name the user types; its fields are its hyper-parameters and become
    options of the command line, their docs the help texts. A method that acts while the network trains also has

    * ``penalty() -> loss`` or ``after_backward()``, which adds to the gradients in closed form,
    * ``after_step()``, which puts the masks back after the optimizer moved the weights,
    * ``state_dict()`` and ``load_state_dict(state)``.
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


_METHODS: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: the method is available under this name."""

    def add(cls: type[Method]) -> type[Method]:
        _METHODS[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Names of all methods, in the order they were registered."""
    return list(_METHODS)


def create(name: str, **options: Any) -> Method:
    """A method with some of its hyper-parameters set.

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
    return cls(**options)


def _kinds(default: Any) -> tuple[type, ...]:
    """What may be given where a hyper-parameter has this default."""
    return (float, int) if isinstance(default, float) else (type(default),)


def find(name: str) -> type[Method]:
    """The class registered under a name.

    Raises:
        BadInput: no method has this name.
    """
    if name not in _METHODS:
        raise BadInput(f"method {name!r} is not known; choose one of: {', '.join(_METHODS)}")
    return _METHODS[name]


def hyperparameters(cls: type[Method]) -> list[str]:
    """Names of a method's hyper-parameters."""
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
