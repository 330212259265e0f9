"""Data to train and to measure accuracy on: from a `--data` option to samples in three splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slimnet.data.samples import Samples
from slimnet.data.spec import Spec, parse
from slimnet.data.splits import carved

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: The `--data` option that it was loaded by.
        train, val, test: Its splits, of samples of one shape; only test is always there.
        augment: How training images are varied: "none", "shift" (by one pixel) or "crop-flip" (padded by an eighth).
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
            and x_val, y_val, or only x and y), `FILE.py:CALLABLE`, which returns {"train": (x, y), "test": ...}, or a
            source of an installed distribution.
            Settings follow a question mark, `mnist:DIR?val=5000&limit=10000`: `val` samples of train are carved out
            for validation (a tenth by default, where the data bring no such split; every class in proportion), `limit`
            keeps so many of what is left, `normalize` is none, imagenet, cifar or MEAN,.../STD,..., `augment` none,
            shift or crop-flip, `size` the pixels along both sides of folders' images, `download=1` fetches
            torchvision's data sets. The same option always gives the same splits.

    Raises:
        BadInput: The option, or what it names, cannot be used.
    """
    parsed = parse(spec)
    splits = carved(_read(parsed), parsed)
    shape = _common_shape(splits, parsed)
    augment = parsed.augment or parsed.source.augment
    if augment != "none" and len(shape) != 3:
        raise parsed.wrong(f"augment={augment} is for images [channels, height, width], not for shape {list(shape)}")
    if (statistics := parsed.statistics(shape)) is not None:
        mean, std = statistics
        splits = {name: replace(samples, mean=mean, std=std) for name, samples in splits.items()}
    return Data(spec, splits.get("train"), splits.get("val"), splits["test"], augment)


def _read(spec: Spec) -> Mapping[str, Samples]:
    """The splits as they lie there. Raises BadInput where a source, one from outside, gives something else."""
    splits = dict(spec.source.read(spec))
    if "test" not in splits or not splits.keys() <= set(SPLITS) or not all(map(_are_samples, splits.values())):
        found = ", ".join(f"{name} ({type(samples).__name__})" for name, samples in splits.items()) or "nothing"
        raise spec.wrong(f"its source gives {found}; it must give Samples, as test and if there are as train and val")
    return splits


def _are_samples(given: object) -> bool:
    return isinstance(given, Samples)


def _common_shape(splits: Mapping[str, Samples], spec: Spec) -> tuple[int, ...]:
    shapes = {name: samples.shape for name, samples in splits.items()}
    if len(set(shapes.values())) > 1:
        listed = " and ".join(f"{list(shape)} ({name})" for name, shape in shapes.items())
        raise spec.wrong(f"has samples of shape {listed}; all splits must have one shape")
    return shapes["test"]
