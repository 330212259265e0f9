"""From small weights to masks: how the element-wise methods decide what is zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slimnet.methods.training import Masks


@torch.no_grad()
def masks_above(params: Mapping[str, Tensor], ratio: float = 0.0, absolute: float = 0.0) -> Masks:
    """Masks of the weights that are not small: |w| >= ratio * population std of the tensor, or >= `absolute`.

    Biases count as the published scripts have it; a tensor without spread keeps everything.
    """
    return {name: p.abs() >= (absolute or ratio * float(p.float().std(correction=0))) for name, p in params.items()}


def filled(masks: Masks) -> Masks:
    """Masks in which a weight is kept if anything in its row and anything in its column is.

    The bias of a layer keeps the rows that its weight keeps.
    """
    full: Masks = {}
    for name, mask in masks.items():
        if mask.ndim > 1:
            rows = mask.flatten(1).any(1)
            columns = mask.transpose(0, 1).flatten(1).any(1)
            full[name] = (rows[:, None] & columns).view(*mask.shape[:2], *[1] * (mask.ndim - 2)).expand_as(mask).clone()
            bias = f"{name.removesuffix('weight')}bias"
            if bias in masks and masks[bias].shape == rows.shape:
                full[bias] = rows
    return {**masks, **full}
