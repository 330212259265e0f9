"""What a pruning method is, and how it is found by name and made."""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from slimnet.common.errors import BadInput
from slimnet.methods import registry
from slimnet.methods.registry import Kind

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


class DataMethod(Method):
    """A criterion that ranks by something measured on data.

    Attributes:
        needs: "maps" (group name -> `Maps`), "gradients" (parameter name -> mean gradient of the loss, in its shape)
            or "fisher" (parameter name -> mean square of the gradients of single samples).
        evidence: just that; to be set before `score` is called.
    """

    needs: ClassVar[str]
    evidence: Mapping[str, Any] | None = None

    def measured(self) -> Mapping[str, Any]:
        """The evidence. Raises BadInput if there is none."""
        if self.evidence is None:
            raise BadInput("this method ranks by what it sees in data: it needs --data, such as --data digits")
        return self.evidence

    def evidence_options(self) -> dict[str, Any]:
        """How the evidence is to be measured, as keyword arguments of the function that does."""
        return {}

    def normalise(self, groups: Sequence[Group], scores: Sequence[npt.NDArray[np.float64]]) -> Scores:
        """The scores themselves: they have the same unit in every layer."""
        return list(scores)


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

#: Classes that `register` has added.
_REGISTERED: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that makes a method of one's own available under a name, for the process it runs in."""

    def add(cls: type[Method]) -> type[Method]:
        _REGISTERED[name] = cls
        summary = (cls.__doc__ or "").strip().partition("\n")[0]
        registry.add(registry.Entry(name, kind_of(cls), summary))
        return cls

    return add


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
        kinds = _types(getattr(cls, option, value))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise BadInput(f"method {name!r}: option {option}={value} is not of type {kinds[0].__name__}")
    return cls(*context, **options)


def _types(default: Any) -> tuple[type, ...]:
    """What may be given where a hyper-parameter has this default."""
    return (float, int) if isinstance(default, float) else (type(default),)


def is_training(name: str) -> bool:
    """Whether a method acts while the network trains. Raises BadInput for an unknown one."""
    return kind(name).trains


def kind(name: str) -> Kind:
    """What a method ranks by. Raises BadInput for an unknown one."""
    entry = registry.entry_of(name)
    return kind_of(find(name)) if entry is None else entry.kind


def kind_of(cls: type[Method]) -> Kind:
    """What methods of a class rank by."""
    if issubclass(cls, DataMethod):
        return Kind.DATA
    if len(hyperparameters(cls)) == len(_fields(cls)):
        return Kind.WEIGHTS
    from slimnet.methods.elementwise import ElementWise  # bound to tensors, so torch is there

    return Kind.SINGLE if issubclass(cls, ElementWise) else Kind.TRAINING


def find(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        BadInput: no method has this name.
    """
    entry = registry.entry_of(name)
    if entry is None:
        raise BadInput(f"method {name!r} is not known; choose one of: {', '.join(registry.names())}")
    if entry.name in _REGISTERED:
        return _REGISTERED[entry.name]
    module, _, cls = entry.home.partition(".")
    found: type[Method] = getattr(importlib.import_module(f"slimnet.methods.{module}"), cls)
    return found


def hyperparameters(cls: type[Method]) -> list[str]:
    """Names of a method's hyper-parameters."""
    return [f.name for f in _fields(cls) if "context" not in f.metadata]


def _fields(cls: type[Method]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
