"""Data to train and to measure accuracy on: from a `--data` option to samples in three splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slimnet.common.files import read_npz
from slimnet.data.samples import Samples, labelled
from slimnet.data.spec import Spec, parse

__all__ = ["Data", "Samples", "load_data", "load_digits_split"]

Split = tuple[np.ndarray, np.ndarray]

#: Normalisation and augmentation where the option says nothing; none of both for all others.
_DEFAULTS = {
    "digits": ("none", "shift"),
    "cifar10": ("imagenet", "crop-flip"),
    "cifar100": ("imagenet", "crop-flip"),
    "imagefolder": ("imagenet", "crop-flip"),
}


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: the `--data` option that it was loaded by.
        train, val, test: its splits, of samples of one shape; only test is always there.
        augment: how training pictures are varied: "none", "shift" (by one pixel) or "crop-flip" (padded by an eighth).
    """

    name: str
    train: Samples | None
    val: Samples | None
    test: Samples
    augment: str = "none"


def load_data(spec: str) -> Data:
    """The data that a `--data` option names.

    Args:
        spec: `digits`, `mnist:DIR`, `fashion-mnist:DIR`, `cifar10:DIR`, `cifar100:DIR` (as torchvision keeps them),
            `imagefolder:DIR` (DIR/train/CLASS/..., DIR/test/CLASS/...), `FILE.npz` (x_train, y_train, x_test, y_test,
            and x_val, y_val, or only x and y) or `FILE.py:CALLABLE`, which returns {"train": (x, y), "test": ...}.
            Settings follow a question mark, `mnist:DIR?val=5000&limit=10000`: `val` samples of train are carved out
            for validation (a tenth by default, where the data bring no such split; every class in proportion), `limit`
            keeps so many of what is left, `normalize` is none, imagenet, cifar or MEAN,.../STD,..., `augment` none,
            shift or crop-flip, `size` the pixels along both sides of folders' pictures, `download=1` fetches
            torchvision's data sets. The same option always gives the same splits.

    Raises:
        BadInput: the option, or what it names, cannot be used.
    """
    parsed = parse(spec)
    splits = _carved(_read(parsed), parsed)
    normalize, default = _DEFAULTS.get(parsed.kind, ("none", "none"))
    shape = _common_shape(splits, parsed)
    augment = parsed.augment or default
    if augment != "none" and len(shape) != 3:
        raise parsed.wrong(f"augment={augment} is for pictures [channels, height, width], not for shape {list(shape)}")
    if (statistics := parsed.statistics(normalize, shape)) is not None:
        mean, std = statistics
        splits = {name: replace(samples, mean=mean, std=std) for name, samples in splits.items()}
    return Data(spec, splits.get("train"), splits.get("val"), splits["test"], augment)


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
    by_class = _shuffled_by_class(labels)
    turn = np.arange(len(labels)) % 5
    parts = {"train": by_class[turn < 3], "val": by_class[turn == 3], "test": by_class[turn == 4]}
    return {name: (images[index], labels[index]) for name, index in parts.items()}


def _read(spec: Spec) -> Mapping[str, Samples]:
    """The splits as they lie there. What is not numpy is imported only by those who need it."""
    if spec.kind == "digits":
        return {name: Samples(*arrays) for name, arrays in load_digits_split().items()}
    if spec.kind == "npz":
        return _from_npz(spec)
    if spec.kind == "imagefolder":
        from slimnet.data.folder import from_folder

        return from_folder(spec)
    from slimnet.data.torch_sources import from_python, from_torchvision

    return from_python(spec) if spec.kind == "py" else from_torchvision(spec)


def _from_npz(spec: Spec) -> dict[str, Samples]:
    arrays = read_npz(Path(spec.place).expanduser(), "--data")
    names = {split: (f"x_{split}", f"y_{split}") for split in ("train", "val", "test")}
    if arrays.keys().isdisjoint(name for pair in names.values() for name in pair):
        names = {"test": ("x", "y")}
    pairs = {split: pair for split, pair in names.items() if split == "test" or not arrays.keys().isdisjoint(pair)}
    if missing := [name for pair in pairs.values() for name in pair if name not in arrays]:
        raise spec.wrong(
            f"holds {', '.join(arrays) or 'nothing'}, but not {' and '.join(missing)}; it needs arrays x and y, "
            "or x_train, y_train, x_test and y_test"
        )
    return {split: labelled(arrays[x], arrays[y], f"--data {spec.text}: {x}, {y}") for split, (x, y) in pairs.items()}


def _carved(splits: Mapping[str, Samples], spec: Spec) -> dict[str, Samples]:
    """The splits with validation carved out of train, and train then cut to its limit."""
    splits = dict(splits)
    if "train" not in splits:
        if spec.val or spec.limit:
            raise spec.wrong("has no training split that val or limit could be taken from; leave them out")
        return splits
    train = splits["train"]
    if "val" in splits:
        if spec.val:
            raise spec.wrong("brings a validation split of its own; leave val out, or say val=0 not to use it")
        if spec.val == 0:
            del splits["val"]
    elif count := len(train) // 10 if spec.val is None else spec.val:
        if count >= len(train):
            raise spec.wrong(f"val={count} leaves none of the {len(train)} training samples; give less")
        carved = _stratified(train.y, count)
        splits["val"] = train.take(carved)
        train = train.take(np.setdiff1d(np.arange(len(train)), carved))
    if spec.limit is not None:
        train = train.take(np.random.RandomState(0).permutation(len(train))[: spec.limit])
    return {**splits, "train": train}


def _stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Random indices of `count` samples, every class in proportion: evenly spaced in an order sorted by class."""
    places = (np.arange(count) * len(labels) + len(labels) // 2) // count
    return _shuffled_by_class(labels)[places]


def _shuffled_by_class(labels: np.ndarray) -> np.ndarray:
    """Indices by class, in random order within it; from the legacy generator, whose stream never changes."""
    shuffled = np.random.RandomState(0).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _common_shape(splits: Mapping[str, Samples], spec: Spec) -> tuple[int, ...]:
    shapes = {name: samples.shape for name, samples in splits.items()}
    if len(set(shapes.values())) > 1:
        told = " and ".join(f"{list(shape)} ({name})" for name, shape in shapes.items())
        raise spec.wrong(f"has samples of shape {told}; all splits must have one shape")
    return shapes["test"]
