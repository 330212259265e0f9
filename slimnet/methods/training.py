"""Methods that act while the network trains: they change its gradients, and say afterwards what goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from slimnet.common.errors import BadInput
from slimnet.common.names import without_wrappers
from slimnet.methods.base import CONTEXT, Budget, Method, Params, Scores
from slimnet.methods.criteria import L1

if TYPE_CHECKING:
    from slimnet.graph.units import Group

#: Turns scores into what is removed, one bool [units] per group: a budget, with its ratios and its rounding.
Pick: TypeAlias = Callable[[Scores], list[npt.NDArray[np.bool_]]]
#: By parameter name a bool tensor of its shape, true where a weight is kept.
Masks: TypeAlias = dict[str, Tensor]


def keep_all(scores: Scores) -> list[npt.NDArray[np.bool_]]:
    """The budget that removes nothing."""
    return [np.zeros(len(values), bool) for values in scores]


@dataclass
class TrainingMethod(Method, ABC):
    """A method that regularises a network while it trains.

    It is bound to the parameters it is given, which are changed in place. Three calls in any PyTorch loop::

        method = GroupHS(trace.groups, dict(module.named_parameters()), pick=slimnet.picker(trace, ratio=0.5))
        for x, y in loader:
            method.before_forward()
            loss(module(x), y).backward()
            method.after_backward()
            optimizer.step()
            method.after_step()

    Gradients that a `torch.amp.GradScaler` has scaled are put back by `scaler.unscale_(optimizer)` before
    `after_backward`. Then either whole units go, `removed()`, or single weights, `masks()`.

    Attributes:
        groups: The groups of units of the traced network.
        params: The parameters of the module by name, those that share a tensor under any of its names; what
            torch.compile and DataParallel put before the names is taken off.
        pick: The budget, which turns scores into what goes; nothing is removed without one.
        steps: The number of optimizer steps that the loop is going to take, for methods whose schedule is fitted to
            it; None leaves the schedule as published.
    """

    groups: Sequence[Group] = field(metadata=CONTEXT)
    params: Mapping[str, Tensor] = field(metadata=CONTEXT, repr=False)
    pick: Pick = field(default=keep_all, metadata=CONTEXT, repr=False)
    steps: int | None = field(default=None, metadata=CONTEXT)

    def __post_init__(self) -> None:
        expected = {member.tensor.partition("@")[0] for group in self.groups for member in group.members}
        given, self.params = self.params, without_wrappers(self.params, expected)
        if expected and given and expected.isdisjoint(self.params):
            raise BadInput(
                f"`params`: none is a weight of the traced network, such as {min(expected)}; pass "
                "dict(module.named_parameters()) of the module that was traced"
            )

    def before_forward(self) -> None:
        """Change the weights for the forward and backward pass; `after_step` puts them back."""

    @abstractmethod
    def after_backward(self) -> None:
        """Add the regulariser's gradient to `grad`, once per optimizer step."""

    def after_step(self) -> None:
        """Put masks back after the optimizer, whose momentum and decay move masked weights too."""

    @property
    def finished(self) -> bool:
        """Whether the method needs no more steps; methods without a schedule of their own never say so."""
        return False

    @property
    def unfinished(self) -> str | None:
        """A sentence for the user where training ends before `finished`; None for methods without a schedule."""
        return None

    def status(self) -> dict[str, float]:
        """The numbers that a progress bar should show, by name: lambda, sparsity, ..."""
        return {}

    def record(self) -> dict[str, float]:
        """The numbers that the history of an epoch should hold, by name."""
        return self.status()

    def notes(self) -> list[str]:
        """Sentences for the user about how the method was set up."""
        return []

    def score(self, params: Params, groups: Sequence[Group]) -> Scores:
        """Importance of every unit after training; the l1 norm of its filters unless a method knows better."""
        return L1().score(params, groups)

    def removed(self, params: Params | None = None) -> list[npt.NDArray[np.bool_]] | None:
        """One bool [units] per group, true where a unit goes; None where `masks` speaks instead.

        `params` are the tensors of the trained network as its trace has them; without it, those of the module serve,
        which may lack what an exported graph computes from several of them, as it does for an LSTM.
        """
        if params is None:
            params = {name: p.detach().float().cpu().numpy() for name, p in self.params.items()}
        return self.chosen(self.score(params, self.groups))

    def chosen(self, scores: Scores) -> list[npt.NDArray[np.bool_]]:
        """What the budget removes for these scores, which it compares between groups as the method says."""
        return self.pick(scores, self.normalise) if isinstance(self.pick, Budget) else self.pick(scores)

    def masks(self) -> Masks | None:
        """The single weights that are kept, for methods that do not remove whole units; None for those that do."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """The state of the method, as tensors and plain numbers from which `load_state_dict` goes on exactly."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`."""
