"""`--data digits`: the handwritten digits that scikit-learn brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from slimnet.data.source import Source

if TYPE_CHECKING:
    import numpy as np

    from slimnet.data.samples import Samples
    from slimnet.data.spec import Spec


def load_digits_split() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The digits as {"train": (images, labels), "val": ..., "test": ...} with 1,079, 359 and 359 samples.

    Images are float32 [n, 1, 8, 8], grey values 0..16 divided by 16 into [0, 1], no mean subtracted; labels are
    int64 [n], 0 to 9. Every class is dealt 3:1:1 in an order drawn from numpy's legacy generator, whose stream is
    frozen, so that the split is the same on every machine and with every release.
    """
    import numpy as np

    from slimnet.common.required import required
    from slimnet.data.splits import shuffled_by_class

    with required("scikit-learn", "the digits data set"):
        from sklearn.datasets import load_digits
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    by_class = shuffled_by_class(labels)
    turn = np.arange(len(labels)) % 5
    parts = {"train": by_class[turn < 3], "val": by_class[turn == 3], "test": by_class[turn == 4]}
    return {name: (images[index], labels[index]) for name, index in parts.items()}


def read(spec: Spec) -> Mapping[str, Samples]:
    """The embedded splits."""
    from slimnet.data.samples import Samples

    return {name: Samples(*arrays) for name, arrays in load_digits_split().items()}


SOURCES = (Source(name="digits", form="digits", read=read, augment="shift"),)
