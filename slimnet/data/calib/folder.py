"""`--calib FOLDER`: images, without classes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slimnet.common.memory import check_size
from slimnet.data.calib.network import Port, Takes
from slimnet.data.calib.option import Option, Sample
from slimnet.data.calib.values import Scaling, scaling
from slimnet.data.images import centre, opened
from slimnet.data.source import Setting, one_of, whole
from slimnet.data.sources.imagefolder import SUFFIXES


@dataclass(frozen=True)
class Preset:
    """A usual combination of settings.

    Attributes:
        normalize: What it normalises by.
        larger: How much longer the shorter side is than what is cut out of it.
        colours: The order of the colours, where there are three.
        kept: Whether pixels stay in 0..255.
    """

    normalize: str = "none"
    larger: float = 1.0
    colours: str = "rgb"
    kept: bool = False


PRESETS = {
    "none": Preset(),
    "imagenet": Preset("imagenet", 256 / 224),
    "clip": Preset("clip"),
    "half": Preset("half"),
    "mobilenet": Preset("half", 256 / 224),
    "yolo": Preset(),
    "caffe": Preset("103.94,116.78,123.68/1,1,1", 256 / 224, "bgr", kept=True),
}
SETTINGS = {
    "size": Setting(whole(1), "a number of pixels"),
    "crop": Setting(whole(1), "a number of pixels"),
    "layout": Setting(one_of({"nchw": False, "nhwc": True}), "nchw or nhwc"),
    "colours": Setting(one_of({name: name for name in ("rgb", "bgr", "grey")}), "rgb, bgr or grey"),
    "preset": Setting(one_of(PRESETS), ", ".join(PRESETS)),
}


@dataclass(frozen=True)
class Cut:
    """How an image becomes an array: it is scaled, and its middle is cut out.

    Attributes:
        height, width: What is cut out, in pixels.
        colours: "rgb", "bgr" or "grey".
        last: Whether the channels are the last axis.
        size: The shorter side of the scaled image, in pixels; None scales it by what is cut out.
        larger: By how much the image is then larger than what just fits around the cut.
    """

    height: int
    width: int
    colours: str
    last: bool
    size: int | None = None
    larger: float = 1.0

    def read(self, file: Path, where: str) -> np.ndarray:
        """An image, uint8 [channels, height, width], or with the channels last. Raises BadInput, naming the file."""
        image = opened(file, "L" if self.colours == "grey" else "RGB", where)
        if self.size is None:
            pixel = min(image.width / self.width, image.height / self.height) / self.larger
        else:
            pixel = min(image.size) / self.size
        cut = np.asarray(centre(image, self.width * pixel, self.height * pixel, self.width, self.height))
        cut = cut.reshape(self.height, self.width, -1)[..., :: -1 if self.colours == "bgr" else 1]
        return cut if self.last else cut.transpose(2, 0, 1)

    def __str__(self) -> str:
        size = "" if self.size is None else f"scaled to {self.size} pixels along the shorter side, "
        return f"{size}cut to {self.width}x{self.height}, {self.colours}"


def read_folder(option: Option, net: Takes) -> tuple[list[Sample], Scaling, str]:
    """Images from anywhere in a folder, what becomes of their pixels, and a sentence that tells a user both.

    Raises:
        BadInput: The folder holds no images, or a test split; one cannot be read; the network takes no images.
    """
    files = _files(Path(option.place).expanduser(), option)
    name, port = _image_input(net, option)
    cut = _cut(option, net, port)
    preset = _preset(option)
    scaled = scaling(option, net, cut.last, preset.normalize, preset.kept, cut.colours == "bgr")
    taken = [files[k] for k in option.chosen(len(files))]
    shape = (len(taken), cut.height, cut.width, 1 if cut.colours == "grey" else 3)
    check_size(shape, f"{option.where}: images", 2, "give a smaller limit")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        images = list(pool.map(lambda file: cut.read(file, option.where), taken))
    told = f"{scaled}" if port.kind == "floats" else "in 0..255"
    return [{name: image} for image in images], scaled, f"images are {cut}, {told}"


def _files(folder: Path, option: Option) -> list[Path]:
    """The images in a folder, in the order of their names; none of a test split."""
    if (folder / "train").is_dir() and ((folder / "test").is_dir() or (folder / "val").is_dir()):
        raise option.wrong(f"{folder} holds splits, and testing is not for calibration; give {folder / 'train'}")
    # What begins with a dot is hidden, such as the "._image.jpg" beside images from another system.
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not found:
        raise option.wrong(f"{folder} holds no images ({', '.join(SUFFIXES)}); add some, or give another folder")
    return found


def _image_input(net: Takes, option: Option) -> tuple[str, Port]:
    """The only input, which takes images."""
    if net.sole is None or len(net.sole[1].shape) != 4 or net.sole[1].kind == "booleans":
        raise option.wrong(
            f"is a folder of images, and {net.name} takes {net.listed}; give FILE.npz or FILE.py:CALLABLE"
        )
    return net.sole


def _cut(option: Option, net: Takes, port: Port) -> Cut:
    """How images are cut, as far as the option says, and else as the shape of the input says."""
    preset = _preset(option)
    last = option.own.get("layout", port.channels_last())
    if last is None and port.shape[1] == port.shape[3]:
        last = False  # such as [1, 3, 3, 3]: nearly always the channels stand before height and width
    if last is None:
        raise option.wrong(f"{net.name} takes {net.listed}, which does not look like images; give layout=nchw or nhwc")
    height, width, channels = port.shape[1:] if last else (*port.shape[2:], port.shape[1])
    colours = option.own.get("colours", "grey" if channels == 1 else preset.colours)
    if channels != (1 if colours == "grey" else 3):
        raise option.wrong(
            f"{net.name} takes {net.listed}: images of {channels} channels, which {colours} does not fill; "
            "give another layout or colours, or FILE.npz"
        )
    if (crop := option.own.get("crop")) is not None:
        height = width = crop
    size = option.own.get("size")
    if size is not None and size < max(height, width):
        raise option.wrong(f"size={size} is less than the {width}x{height} pixels to cut out; give more, or less crop")
    return Cut(height, width, colours, last, size, preset.larger)


def _preset(option: Option) -> Preset:
    found = option.own.get("preset", PRESETS["none"])
    assert isinstance(found, Preset), "the setting is parsed so"
    return found
