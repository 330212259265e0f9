"""Group-HS: the Hoyer-Square measure over groups of weights (Yang, Wen, Li 2020, "DeepHoyer", section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Role
from slimnet.methods.parameter_groups import ParameterGroups
from slimnet.methods.threshold import filled, masks_above
from slimnet.methods.training import Masks, TrainingMethod

GROUPINGS = ("units", "layers")


@dataclass
class GroupHS(TrainingMethod):
    """Group-HS of filters and of channels: alpha * sum over partitions of (sum_g |w_g|)^2 / sum_g |w_g|^2.

    Attributes:
        alpha: The strength of the penalty, the same for filters and channels.
        grouping: What a group of weights is: "units" takes the traced units, coupled layers together; "layers" the
            rows and columns of each weight on its own, as the paper does.
        threshold: 0 removes units by the budget; else weights below threshold * std of their tensor become zero, as in
            the paper, and whatever that empties is removed.
        absolute: Weights below this become zero, instead of `threshold`; 0 leaves it to that.
        refill: Whether zeros in rows and columns that are kept may grow again while fine-tuning: they are computed with
            anyway. False keeps every single zero, as the published scripts do.
    """

    alpha: float = 1e-3
    grouping: str = "units"
    threshold: float = 0.0
    absolute: float = 0.0
    refill: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grouping not in GROUPINGS:
            raise BadInput(f"group-hs: grouping {self.grouping!r} is not known; choose units or layers")
        if self.grouping == "units":
            self._parameter_groups = [
                ParameterGroups.of_units(self.groups, self.params, role) for role in (Role.OUT, Role.IN)
            ]
        else:
            self._parameter_groups = [ParameterGroups.of_layers(self.params, axis) for axis in (0, 1)]
        self._value = torch.zeros(())

    @torch.no_grad()
    def after_backward(self) -> None:
        self._value = torch.stack([_step(groups, self.alpha) for groups in self._parameter_groups]).sum()

    def status(self) -> dict[str, float]:
        return {"penalty": float(self._value)}

    def masks(self) -> Masks | None:
        if self.threshold or self.absolute:
            masks = masks_above(self.params, self.threshold, self.absolute)
            return filled(masks) if self.refill else masks
        return None


def _step(groups: ParameterGroups, alpha: float) -> Tensor:
    """Add alpha * dGH/dw to the gradients, 2 alpha (P/S^2)(S/|w_g| - P) w; return alpha * GH.

    P is the sum of the group norms of a partition, S that of their squares. Groups that are zero remain so.
    """
    squares = groups.squares()
    norms = squares.sqrt()
    p, s = groups.sum_by_part(norms), groups.sum_by_part(squares)
    slope = torch.where(s > 0, p / s, 0)
    pull = torch.where(norms > 0, 1 / norms - slope[groups.part], 0)
    groups.add_to_gradients(2 * alpha * slope[groups.part] * pull)
    return alpha * (p * slope).sum()
