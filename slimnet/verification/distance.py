"""How far the outputs of two networks are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def distance(expected: Sequence[npt.NDArray[Any]], actual: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    """Largest absolute difference over all outputs, and the largest relative to its own output's maximum.

    What is no number, such as a string, is equal or infinitely far away.
    """
    worst_absolute, worst_relative = 0.0, 0.0
    if len(expected) != len(actual):
        return float("inf"), float("inf")
    for want, got in zip(expected, actual, strict=True):
        if want.shape != got.shape:
            return float("inf"), float("inf")
        if want.size == 0:
            continue
        if not (is_numeric(want) and is_numeric(got)):
            if np.array_equal(want, got):
                continue
            return float("inf"), float("inf")
        a, b = want.astype(np.float64), got.astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
            return float("inf"), float("inf")
        if not finite.any():
            continue
        absolute = float(np.abs(a[finite] - b[finite]).max())
        scale = float(np.abs(a[finite]).max())
        worst_absolute = max(worst_absolute, absolute)
        worst_relative = max(worst_relative, absolute / scale if scale else (np.inf if absolute else 0.0))
    return worst_absolute, worst_relative


def is_numeric(array: npt.NDArray[Any]) -> bool:
    """Whether an output holds numbers or truth values, and not strings."""
    return array.dtype.kind not in "OSU"
