"""Images on disk that look like an array."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.common.required import required

if TYPE_CHECKING:
    from PIL import Image

#: The decoders that may look at a file, whatever its name: Pillow's others start programs, for one.
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class Images:
    """Images on disk that look like an array uint8 [n, 3, height, width], decoded when indexed.

    Attributes:
        files: The paths of the images, object [n].
        sample: The shape of one image, [3, height, width].
        size: Every image is cut and scaled to size x size pixels; None where they all have one size.
    """

    files: np.ndarray
    sample: tuple[int, ...]
    size: int | None = None
    dtype: np.dtype[np.uint8] = field(default=np.dtype(np.uint8), init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, [n, 3, height, width]."""
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

    def take(self, indices: np.ndarray, axis: Literal[0]) -> Images:
        """Some of the images, still on disk."""
        return replace(self, files=self.files[indices])

    def _decoded(self, file: Path) -> np.ndarray:
        image = decode(file, self.size)
        if image.shape != self.sample:
            (_, height, width), (_, other_height, other_width) = self.sample, image.shape
            raise BadInput(
                f"`data`: {file} has {other_width}x{other_height} pixels and the first image {width}x{height}; "
                "give all of them one size, as in ?size=224"
            )
        return image


def decode(file: Path, size: int | None) -> np.ndarray:
    """One image, uint8 [3, height, width]; with a size, the shorter side is scaled to it and the centre cut.

    Raises:
        BadInput: The file cannot be decoded, or would be too large.
    """
    image = opened(file, "RGB", "`data`")
    if size is not None:
        image = centre(image, min(image.size), min(image.size), size, size)
    return np.asarray(image).transpose(2, 0, 1)


def opened(file: Path, mode: str, where: str) -> Image.Image:
    """An image in one of Pillow's modes, "RGB" or "L"; `where` begins the message.

    Raises:
        BadInput: The file cannot be decoded, or would be too large.
    """
    with required("pillow", "a data set of images"):
        from PIL import Image
    try:
        with Image.open(file, formats=FORMATS) as found:
            return found.convert(mode)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadInput(f"{where}: {file} cannot be read as an image ({essence(error)}); repair or remove it") from error


def centre(image: Image.Image, wide: float, high: float, width: int, height: int) -> Image.Image:
    """The middle `wide` x `high` pixels of an image, scaled to `width` x `height` pixels."""
    from PIL import Image

    # Rounding may have brought them a trifle beyond the image.
    wide, high = min(wide, image.width), min(high, image.height)
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    # In one step: an image of a single row, scaled as a whole, would become a huge one.
    return image.resize((width, height), Image.Resampling.BILINEAR, (left, top, left + wide, top + high))
