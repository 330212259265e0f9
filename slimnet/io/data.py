"""The embedded data: scikit-learn's 1,797 handwritten digits of 8x8 pixels, split once for everybody."""

import numpy as np

from slimnet.errors import BadInput
from slimnet.io.files import read_npz

Split = tuple[np.ndarray, np.ndarray]


def load_digits_split() -> dict[str, Split]:
    """The digits as {"train": (images, labels), "val": ..., "test": ...} with 1,079, 359 and 359 samples.

    Images are float32 [n, 1, 8, 8], grey values 0..16 divided by 16 into [0, 1], no mean subtracted; labels are
    int64 [n], 0 to 9. Every class is dealt 3:1:1 in an order drawn from numpy's legacy generator, whose stream is
    frozen, so that the split is the same on every machine and with every release.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    turn = np.arange(len(labels)) % 5
    parts = {"train": by_class[turn < 3], "val": by_class[turn == 3], "test": by_class[turn == 4]}
    return {name: (images[index], labels[index]) for name, index in parts.items()}


def load_data(spec: str) -> Split:
    """Images and labels to measure accuracy on: "digits" (their test part) or an .npz file with arrays x and y.

    Raises:
        BadInput: no such data, or arrays that do not fit together.
    """
    if spec == "digits":
        return load_digits_split()["test"]
    arrays = read_npz(spec, "--data")
    if not {"x", "y"} <= arrays.keys():
        raise BadInput(f"--data {spec}: holds {', '.join(arrays) or 'nothing'}; it needs arrays x and y")
    x, y = arrays["x"], arrays["y"]
    if y.ndim != 1 or x.ndim < 1 or len(x) != len(y):
        raise BadInput(f"--data {spec}: x has {len(x)} samples and y has shape {y.shape}; they must fit together")
    return x, y
