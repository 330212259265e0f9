"""`--data mnist:DIR`, `cifar10:DIR` and the like: published data sets, as torchvision keeps and fetches them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.common.files import essence
from slimnet.data.source import Setting, Source, one_of

if TYPE_CHECKING:
    import numpy as np

    from slimnet.data.samples import Samples
    from slimnet.data.spec import Spec

#: The names of torchvision's classes.
_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def read(spec: Spec) -> Mapping[str, Samples]:
    """The training and test split of a data set in a folder, as torchvision keeps it there.

    The CIFAR files are pickles; torchvision opens them only if their MD5 sums are those of the published ones.

    Raises:
        BadInput: Torchvision cannot be imported, or the data are not there, damaged or not to be had.
    """
    import numpy as np

    from slimnet.data.samples import Samples

    try:
        datasets = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError, OSError) as error:
        raise spec.wrong(
            f"torchvision cannot be imported ({essence(error)}); install torch and torchvision from one place"
        ) from error
    name, folder, download = _CLASSES[spec.source.name], Path(spec.place).expanduser(), spec.own.get("download", False)
    dataset = getattr(datasets, name)
    try:
        parts = {split: dataset(folder, train=split == "train", download=download) for split in ("train", "test")}
    except (RuntimeError, OSError, ValueError, AssertionError, EOFError) as error:
        why = essence(error).removesuffix(" You can use download=True to download it")
        advice = "without a network, copy its files there from another machine" if download else "add ?download=1"
        raise spec.wrong(f"no usable {name} in {folder} ({why}); {advice}") from error
    return {
        split: Samples(_channels_first(np.asarray(part.data)), np.asarray(part.targets).astype(np.int64))
        for split, part in parts.items()
    }


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Images [n, height, width(, channels)] as [n, channels, height, width]."""
    return images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2).copy()


_SETTINGS = {"download": Setting(one_of({"0": False, "1": True}), "0 or 1")}
SOURCES = (
    *(Source(name=name, form=f"{name}:DIR", read=read, settings=_SETTINGS) for name in ("mnist", "fashion-mnist")),
    *(
        Source(name=name, form=f"{name}:DIR", read=read, settings=_SETTINGS, normalize="imagenet", augment="crop-flip")
        for name in ("cifar10", "cifar100")
    ),
)
