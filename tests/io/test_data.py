import hashlib

import numpy as np

from slimnet.io.data import load_digits_split


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def test_digits_split_is_the_same_for_everybody() -> None:
    digests = {name: digest(*arrays) for name, arrays in load_digits_split().items()}
    assert digests == {"train": "55c498180fd06bde", "val": "a55bdafa503f4890", "test": "6e681f3bb2d24b98"}


def test_digits_split_is_scaled_and_stratified() -> None:
    split = load_digits_split()
    assert [len(labels) for _, labels in split.values()] == [1079, 359, 359]
    for images, labels in split.values():
        assert images.shape == (len(labels), 1, 8, 8)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.min() == 0
        assert images.max() == 1
        assert np.ptp(np.bincount(labels, minlength=10)) <= 6
