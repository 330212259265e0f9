"""`--data imagefolder:DIR`: images in folders named after their classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.data.source import Setting, Source, whole

if TYPE_CHECKING:
    from slimnet.data.samples import Samples
    from slimnet.data.spec import Spec

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: Sets of at most so many decoded bytes are kept in memory.
IN_MEMORY = 2**30


def read(spec: Spec) -> Mapping[str, Samples]:
    """The splits DIR/train, DIR/val and DIR/test; without a test split, that of validation is taken for it.

    Raises:
        BadInput: A folder is missing or empty, the classes of two splits differ, or an image cannot be read.
    """
    from slimnet.data.images import decode

    folder, size = Path(spec.place).expanduser(), spec.own.get("size")
    names = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
    if "train" not in names or len(names) < 2:
        raise spec.wrong(f"{folder} needs folders train and test (or val), which hold one folder per class")
    listed = {name: _listed(folder / name, spec) for name in names}
    if "test" not in listed:
        listed["test"] = listed.pop("val")
    classes = list(listed["train"])
    for name, found in listed.items():
        if differing := sorted(found.keys() ^ set(classes)):
            raise spec.wrong(
                f"train and {name} have different classes, such as {differing[0]!r}; each needs all folders"
            )
    sample = decode(listed["train"][classes[0]][0], size).shape
    total = sum(len(files) for found in listed.values() for files in found.values()) * math.prod(sample)
    return {name: _samples(list(found.values()), sample, size, total <= IN_MEMORY) for name, found in listed.items()}


def _listed(folder: Path, spec: Spec) -> dict[str, list[Path]]:
    """The files of every class, both in the order of their names."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise spec.wrong(f"{folder} holds no folders; it needs one per class")
    found = {name: sorted(f for f in (folder / name).rglob("*") if f.suffix.lower() in SUFFIXES) for name in classes}
    if empty := [name for name, files in found.items() if not files]:
        raise spec.wrong(f"{folder / empty[0]} holds no images ({', '.join(SUFFIXES)}); add some, or remove it")
    return found


def _samples(files: list[list[Path]], sample: tuple[int, ...], size: int | None, in_memory: bool) -> Samples:
    """The samples of one split, whose files are listed class by class."""
    import numpy as np

    from slimnet.data.images import Images
    from slimnet.data.samples import Samples

    paths = np.array([path for of_class in files for path in of_class], object)
    labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files])
    images = Images(paths, sample, size)
    return Samples(images[np.arange(len(paths))] if in_memory else images, labels)


SOURCES = (
    Source(
        name="imagefolder",
        form="imagefolder:DIR",
        read=read,
        normalize="imagenet",
        augment="crop-flip",
        settings={"size": Setting(whole(1), "a number of pixels")},
    ),
)
