"""`--data imagefolder:DIR`: pictures in folders named after their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.data.samples import Samples
from slimnet.data.spec import Spec

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: The decoders that may look at a file, whatever its name: Pillow's others start programs, for one.
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
#: Sets of at most so many decoded bytes are kept in memory.
IN_MEMORY = 2**30


@dataclass(frozen=True)
class Pictures:
    """Pictures on disk that look like an array uint8 [n, 3, height, width], decoded when indexed.

    Attributes:
        files: object [n], their paths.
        sample: the shape of one, [3, height, width].
        size: cut and scale every picture to size x size pixels; None where they all have one size.
    """

    files: np.ndarray
    sample: tuple[int, ...]
    size: int | None = None
    dtype: np.dtype[np.uint8] = field(default=np.dtype(np.uint8), init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.files), *self.sample

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        files = self.files[indices]
        out = np.empty((len(files), *self.sample), np.uint8)

        def put(k: int) -> None:
            out[k] = self._decoded(files[k])

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for _ in pool.map(put, range(len(files))):
                pass
        return out

    def take(self, indices: np.ndarray, axis: Literal[0]) -> Pictures:
        """Some of the pictures, still on disk."""
        return replace(self, files=self.files[indices])

    def _decoded(self, file: Path) -> np.ndarray:
        picture = decode(file, self.size)
        if picture.shape != self.sample:
            (_, height, width), (_, other_height, other_width) = self.sample, picture.shape
            raise BadInput(
                f"--data: {file} has {other_width}x{other_height} pixels and the first picture {width}x{height}; "
                "give all of them one size, as in ?size=224"
            )
        return picture


def from_folder(spec: Spec) -> Mapping[str, Samples]:
    """The splits DIR/train, DIR/val and DIR/test; without a test split, that of validation is taken for it.

    Raises:
        BadInput: a folder is missing or empty, the classes of two splits differ, or a picture cannot be read.
    """
    folder = Path(spec.place).expanduser()
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
    sample = decode(listed["train"][classes[0]][0], spec.size).shape
    total = sum(len(files) for found in listed.values() for files in found.values()) * int(np.prod(sample))
    return {
        name: _samples(list(found.values()), sample, spec.size, total <= IN_MEMORY) for name, found in listed.items()
    }


def decode(file: Path, size: int | None) -> np.ndarray:
    """One picture, uint8 [3, height, width]; with a size, the shorter side is scaled to it and the centre cut.

    Raises:
        BadInput: the file cannot be decoded, or would be too large.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadInput(f"--data: {file} cannot be read as a picture ({essence(error)}); repair or remove it") from error
    if size is not None:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        # In one step: a picture of a single row, scaled as a whole, would become a huge one.
        picture = picture.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    return np.asarray(picture).transpose(2, 0, 1)


def _listed(folder: Path, spec: Spec) -> dict[str, list[Path]]:
    """The files of every class, both in the order of their names."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise spec.wrong(f"{folder} holds no folders; it needs one per class")
    found = {name: sorted(f for f in (folder / name).rglob("*") if f.suffix.lower() in SUFFIXES) for name in classes}
    if empty := [name for name, files in found.items() if not files]:
        raise spec.wrong(f"{folder / empty[0]} holds no pictures ({', '.join(SUFFIXES)}); add some, or remove it")
    return found


def _samples(files: list[list[Path]], sample: tuple[int, ...], size: int | None, in_memory: bool) -> Samples:
    paths = np.array([path for of_class in files for path in of_class], object)
    labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files])
    pictures = Pictures(paths, sample, size)
    return Samples(pictures[np.arange(len(paths))] if in_memory else pictures, labels)
