"""`--data` that needs torch: torchvision's data sets, and whatever a Python file of the user returns."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.common.files import essence, existing_file
from slimnet.data.samples import Samples, labelled
from slimnet.data.spec import Spec

#: The names of torchvision's classes.
CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def from_torchvision(spec: Spec) -> Mapping[str, Samples]:
    """The training and test split of a data set in a folder, as torchvision keeps it there.

    The CIFAR files are pickles; torchvision opens them only if their MD5 sums are those of the published ones.

    Raises:
        BadInput: torchvision cannot be imported, or the data are not there, damaged or not to be had.
    """
    try:
        datasets = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError) as error:
        raise spec.wrong(
            f"torchvision cannot be imported ({essence(error)}); install torch and torchvision from one place"
        ) from error
    dataset, folder = getattr(datasets, CLASSES[spec.kind]), Path(spec.place).expanduser()
    try:
        parts = {name: dataset(folder, train=name == "train", download=spec.download) for name in ("train", "test")}
    except (RuntimeError, OSError, ValueError, AssertionError, EOFError) as error:
        why = essence(error).removesuffix(" You can use download=True to download it")
        advice = "without a network, copy its files there from another machine" if spec.download else "add ?download=1"
        raise spec.wrong(f"no usable {CLASSES[spec.kind]} in {folder} ({why}); {advice}") from error
    return {name: Samples(_pixels(part.data), _classes(part.targets)) for name, part in parts.items()}


def from_python(spec: Spec) -> Mapping[str, Samples]:
    """What FILE.py:CALLABLE returns: splits by name, each a pair of arrays or tensors, or a torch data set.

    Raises:
        BadInput: the file or the callable fails, or returns something else.
    """
    from slimnet.common.python_file import executed, importable, split

    where, name = split(spec.place)
    file = existing_file(Path(where).expanduser())
    with importable(file.absolute().parent):
        make = getattr(executed(file), name, None)
        if not callable(make):
            raise spec.wrong(f"{file} has no function {name}")
        try:
            splits = make()
            parts = {key: _arrays(value) for key, value in splits.items() if value is not None}
        except Exception as error:
            raise spec.wrong(
                f"{name}() fails, or does not return pairs of arrays ({type(error).__name__}: {essence(error)}); "
                'it must return {"train": (x, y), "test": (x, y)}'
            ) from error
    if "test" not in parts or not parts.keys() <= {"train", "val", "test"}:
        found = ", ".join(map(str, parts)) or "nothing"
        raise spec.wrong(f"{name}() returns {found}; it must return test, and may return train and val")
    return {key: labelled(x, y, f"--data {spec.text}: {key}") for key, (x, y) in parts.items()}


def _pixels(data: Any) -> np.ndarray:
    """Pictures [n, height, width(, channels)] as [n, channels, height, width]."""
    pixels = np.asarray(data)
    return np.ascontiguousarray(np.moveaxis(pixels.reshape(*pixels.shape[:3], -1), -1, 1))


def _classes(targets: Any) -> np.ndarray:
    return np.asarray(targets).astype(np.int64)


def _arrays(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """A pair as it is, or the samples of a data set stacked."""
    if not isinstance(part, tuple | list):
        samples = [part[k] for k in range(len(part))]
        part = np.stack([np.asarray(x) for x, _ in samples]), np.asarray([int(y) for _, y in samples])
    x, y = part
    return np.asarray(x), np.asarray(y)
