"""Group lasso over filters (Yuan and Lin 2006; for networks Wen et al. 2016, "Learning Structured Sparsity")."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slimnet.graph.parameters import Role
from slimnet.methods.parameter_groups import ParameterGroups
from slimnet.methods.training import TrainingMethod


@dataclass
class GroupLasso(TrainingMethod):
    """Group lasso: strength * sum over units of sqrt(elements) |w_g|, with w_g all filters of a unit.

    Attributes:
        strength: The strength lambda of the penalty. The gradient of a filter has the norm strength * sqrt(elements),
            whatever is left of the filter.
    """

    strength: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._parameter_groups = ParameterGroups.of_units(self.groups, self.params, Role.OUT)
        self._value = torch.zeros(())

    @torch.no_grad()
    def after_backward(self) -> None:
        norms = self._parameter_groups.squares().sqrt()
        scale = self.strength * self._parameter_groups.elements.sqrt()
        self._parameter_groups.add_to_gradients(torch.where(norms > 0, scale / norms, 0))
        self._value = (scale * norms).sum()

    def status(self) -> dict[str, float]:
        return {"penalty": float(self._value)}
