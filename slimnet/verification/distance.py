"""How far what two networks compute is apart, measured slice by slice.

Detectors put boxes of hundreds of pixels and class scores below one into one tensor, so a difference is relative to
what stands in its own slice, along every axis, and not to the largest number of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Arrays: TypeAlias = Sequence[npt.NDArray[Any]]
#: Differences below the smallest normal number of single precision are none: denormal numbers have no precision.
TINY = float(np.finfo(np.float32).tiny)
#: Booleans, integers and strings are the same or not.
_DISCRETE = "biuOSU"


def distance(expected: Arrays, actual: Arrays) -> tuple[float, float]:
    """Largest absolute difference over all outputs, and the largest relative to its own output's maximum."""
    if len(expected) != len(actual):
        return float("inf"), float("inf")
    worst_absolute, worst_relative = 0.0, 0.0
    for want, got in zip(expected, actual, strict=True):
        apart = difference(want, got)
        if apart is None:
            return float("inf"), float("inf")
        size = 1.0 if want.dtype.kind in _DISCRETE else float(magnitude(want).max(initial=0))
        absolute = float(apart.max(initial=0))
        worst_absolute = max(worst_absolute, absolute)
        worst_relative = max(worst_relative, absolute / size if size else (np.inf if absolute else 0.0))
    return worst_absolute, worst_relative


def difference(want: npt.NDArray[Any], got: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """The absolute difference of each element, 0 where both are NaN or the same infinity; of what is no number, 0 or 1.

    None where shapes differ, or one is NaN or infinite and the other is not.
    """
    if want.shape != got.shape:
        return None
    if want.dtype.kind in _DISCRETE and got.dtype.kind in _DISCRETE:
        return np.asarray(want != got, np.float32)
    a, b = _floating(want), _floating(got)
    finite = np.isfinite(a)
    if finite.all():
        return np.abs(a - b) if np.isfinite(b).all() else None
    if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
        return None
    return np.abs(np.where(finite, a, 0) - np.where(finite, b, 0))


def magnitude(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The absolute value of each element, 0 where it is not finite."""
    size = np.abs(_floating(array))
    return np.where(np.isfinite(size), size, 0)


def _floating(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


class Scale:
    """What differences of one output are relative to, slice by slice.

    How much a slice is worth, as a fraction of the largest number of its output, is read off all inputs of a comparison
    together: single numbers happen to be near zero for one of them.
    """

    def __init__(self, expected: Arrays) -> None:
        """Read the scale off one output for several inputs."""
        self.discrete = all(array.dtype.kind in _DISCRETE for array in expected)
        self._worth: dict[tuple[int, int], npt.NDArray[Any]] = {}
        self._noise: dict[tuple[int, int], npt.NDArray[Any]] = {}
        for array in () if self.discrete else expected:
            self._gather(self._worth, magnitude(array), float(magnitude(array).max(initial=0)))
        self._flips = 0.0

    @staticmethod
    def _gather(into: dict[tuple[int, int], npt.NDArray[Any]], sizes: npt.NDArray[Any], whole: float) -> None:
        for axis, part in enumerate(slices(sizes)):
            key = axis, len(part)
            share = part / whole if whole else part
            into[key] = np.maximum(into[key], share) if key in into else share

    def add_noise(self, expected: npt.NDArray[Any], noise: npt.NDArray[Any] | None) -> None:
        """Learn by how much rounding alone has moved each element of the output for one of the inputs."""
        if noise is None:
            self._flips = 1.0
        elif self.discrete:
            self._flips = max(self._flips, _flipped(noise))
        else:
            self._gather(self._noise, noise, float(magnitude(expected).max(initial=0)))

    @property
    def noise(self) -> float:
        """By how much rounding moves the slice that it moves most, relative to the slice."""
        if self.discrete:
            return self._flips
        shares = (noise[worth > 0] / worth[worth > 0]
                  for key, noise in self._noise.items() for worth in [self._worth[key]])  # fmt: skip
        return max((float(share.max(initial=0)) for share in shares), default=0.0)

    def relative(self, want: npt.NDArray[Any], got: npt.NDArray[Any], allowance: float = 0.0) -> float:
        """The largest difference relative to its slice.

        Args:
            want: The output as it should be.
            got: The output as it is.
            allowance: So many times what rounding moves a slice by is added to what it is worth.

        Returns:
            A fraction of the slice; for integers and booleans, the fraction of elements that differ beyond those that
            rounding flips. Infinity where the shapes, or the places of NaN and infinity, differ.
        """
        apart = difference(want, got)
        if apart is None:
            return np.inf if not self.discrete or self._flips < 1 or not allowance else 0.0
        if self.discrete:
            return max(0.0, _flipped(apart) - (allowance and _SPARE * self._flips))
        apart = np.where(apart <= TINY, 0, apart)
        if not apart.any():
            return 0.0
        sizes = magnitude(want)
        whole = float(sizes.max(initial=0))
        worst = 0.0
        for axis, (error, own) in enumerate(zip(slices(apart), slices(sizes), strict=True)):
            key = axis, len(error)
            scale = np.maximum(own, self._worth[key] * whole) if key in self._worth else own
            if allowance and key in self._noise:
                scale = scale + allowance * self._noise[key] * whole
            with np.errstate(divide="ignore"):
                worst = max(worst, float((error[error > 0] / scale[error > 0]).max(initial=0)))
        return worst


#: Rounding may flip so many times the elements that it was seen to flip.
_SPARE = 10


def _flipped(apart: npt.NDArray[Any]) -> float:
    return float(np.count_nonzero(apart)) / max(1, apart.size)


def slices(sizes: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """For each axis, the largest element of each slice across it; of a scalar, itself."""
    if sizes.ndim <= 1:
        return [sizes.reshape(-1)]
    return [sizes.max(axis=tuple(k for k in range(sizes.ndim) if k != axis), initial=0) for axis in range(sizes.ndim)]
