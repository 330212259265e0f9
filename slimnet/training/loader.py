"""Batches of tensors from samples, shuffled and augmented a whole batch at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from slimnet.common.errors import BadInput
from slimnet.data.samples import Samples
from slimnet.training.phase import Phase

Batch = tuple[Tensor, Tensor]


def batches(samples: Samples, phase: Phase, augment: str) -> DataLoader[Any]:
    """Training batches in random order; the last one is left out where it would be smaller.

    Raises:
        BadInput: there are fewer samples than one batch takes.
    """
    if len(samples) < phase.batch_size:
        raise BadInput(f"batch_size {phase.batch_size}: the training split has only {len(samples)} samples")
    collate = partial(_collate, augment=augment, channels_last=phase.channels_last)
    return DataLoader(samples, phase.batch_size, shuffle=True, drop_last=True, collate_fn=collate)  # type: ignore[arg-type]


def _collate(arrays: tuple[np.ndarray, np.ndarray], augment: str, channels_last: bool) -> Batch:
    x, y = AUGMENTATIONS[augment](torch.from_numpy(arrays[0])), torch.from_numpy(arrays[1])
    return x.to(memory_format=torch.channels_last) if channels_last and x.ndim == 4 else x, y


def _same(x: Tensor) -> Tensor:
    return x


def _shifted(x: Tensor, pixels: int = 1) -> Tensor:
    """Images [n, c, h, w], each moved by up to some pixels along both axes, zeros coming in."""
    n, c, height, width = x.shape
    padded = F.pad(x, (pixels,) * 4)
    span = 2 * pixels + 1
    rows = torch.randint(0, span, (n, 1, 1, 1)) + torch.arange(height)[:, None]
    columns = torch.randint(0, span, (n, 1, 1, 1)) + torch.arange(width)
    return padded[torch.arange(n)[:, None, None, None], torch.arange(c)[:, None, None], rows, columns]


def _cropped_and_flipped(x: Tensor) -> Tensor:
    """Random crops of the padded images, and mirror images of half of them."""
    flip = torch.rand(len(x), 1, 1, 1) < 0.5
    return _shifted(torch.where(flip, x.flip(-1), x), max(1, x.shape[-1] // 8))


AUGMENTATIONS = {"none": _same, "shift": _shifted, "crop-flip": _cropped_and_flipped}
