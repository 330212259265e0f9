"""How far the outputs of two networks agree, where nobody knows what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: A result that picks another class than the dense network for more than this part of the inputs is a ruin, and so is
#: one whose outputs are as far from the dense ones as these are from their own mean.
RUIN = 0.5


@dataclass(frozen=True)
class Agreement:
    """How a network agrees with another one on some inputs.

    Attributes:
        distance: The distance of all outputs, relative to how far the other network's are from their means: 0 is
            equality, and 1 what a constant would reach.
        top1: The fraction of inputs for which the largest score of the first output is the same class; None where that
            is not one vector of scores for each input.
        cosine: The mean cosine of the first output's vectors, without their mean; None where it has none.
    """

    distance: float
    top1: float | None = None
    cosine: float | None = None

    @property
    def is_ruin(self) -> bool:
        """Whether next to nothing of the network is left."""
        return self.top1 < 1 - RUIN if self.top1 is not None else not self.distance < 1

    def to_json(self) -> dict[str, Any]:
        """Plain values, for report.json."""
        return asdict(self)


class Tally:
    """Collects outputs of two networks, batch by batch."""

    def __init__(self) -> None:
        self._apart, self._sum, self._square, self._count = [np.zeros(0) for _ in range(4)]
        self._same = self._cosine = 0.0
        self._samples = 0
        self._classes = True

    def add(self, wanted: Sequence[npt.NDArray[Any]], got: Sequence[npt.NDArray[Any]]) -> None:
        """Add the outputs of the one network and those of the other for the same inputs."""
        pairs = [(w.astype(np.float64), g.astype(np.float64)) for w, g in zip(wanted, got, strict=True)
                 if w.dtype.kind == "f" and w.shape == g.shape]  # fmt: skip
        if not len(self._apart):
            self._apart, self._sum, self._square, self._count = (np.zeros(len(pairs)) for _ in range(4))
        for k, (want, have) in enumerate(pairs[: len(self._apart)]):
            self._apart[k] += np.square(want - have).sum()
            self._sum[k] += want.sum()
            self._square[k] += np.square(want).sum()
            self._count[k] += want.size
        if pairs:
            self._compare(*pairs[0])

    def _compare(self, want: npt.NDArray[np.float64], have: npt.NDArray[np.float64]) -> None:
        self._classes &= want.ndim == 2 and want.shape[1] > 1
        if want.ndim < 2:
            return
        a, b = (x.reshape(-1, x.shape[-1]) for x in (want, have))
        self._samples += len(a)
        self._same += float((a.argmax(axis=1) == b.argmax(axis=1)).sum())
        sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        self._cosine += float(((a * b).sum(axis=1) / np.maximum(sizes, 1e-300)).sum())

    def result(self) -> Agreement:
        """How they agree on all of it; each output counts alike."""
        spread = self._square - np.square(self._sum) / np.maximum(self._count, 1)
        parts = np.sqrt(self._apart / np.maximum(spread, 1e-300))
        distance = float(np.sqrt(np.mean(np.square(parts)))) if len(parts) else 0.0
        if not self._samples:
            return Agreement(distance)
        return Agreement(distance, self._same / self._samples if self._classes else None, self._cosine / self._samples)
