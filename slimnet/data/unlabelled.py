"""Inputs without labels, from a `--calib` option: what recovery is fitted to, and what allocation is measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import BadInput, SlimnetError
from slimnet.common.files import essence, existing_file, read_npz
from slimnet.common.inputs import sizes
from slimnet.common.python_file import executed, importable, is_spec, split
from slimnet.data.images import decode
from slimnet.data.load import load_data
from slimnet.data.source import Setting, one_of, whole
from slimnet.data.sources.imagefolder import SUFFIXES
from slimnet.data.spec import STATISTICS
from slimnet.graph.net import Net

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

#: So many inputs are taken where the option names no other number.
LIMIT = 512
#: Fewer inputs than these say little about a network.
FEW = 16
#: What usual families of networks are fed with: mean and deviation, colours, and what white is.
PRESETS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "imagenet": {"normalize": "imagenet"},
    "clip": {"normalize": "0.4815,0.4578,0.4082/0.2686,0.2613,0.2758"},
    "half": {"normalize": "0.5/0.5"},
    "caffe": {"normalize": "103.94,116.78,123.68/1", "colours": "bgr", "scale": "255"},
}
_SETTINGS: Mapping[str, Setting] = {
    "limit": Setting(whole(1), "a number of inputs"),
    "seed": Setting(whole(0), "a number: draws inputs at random instead of evenly"),
    "size": Setting(whole(1), "a number of pixels, for networks that take any size"),
    "normalize": Setting(str, "none, imagenet, cifar, or means and deviations as in 0.5,0.5,0.5/0.2,0.2,0.2"),
    "layout": Setting(one_of({"nchw": "nchw", "nhwc": "nhwc"}), "nchw or nhwc"),
    "colours": Setting(one_of({name: name for name in ("rgb", "bgr", "grey")}), "rgb, bgr or grey"),
    "scale": Setting(one_of({"1": 1, "255": 255}), "1 or 255: what white is before it is normalised"),
    "preset": Setting(one_of(PRESETS), ", ".join(PRESETS)),
}


@dataclass(frozen=True)
class Unlabelled:
    """Inputs of a network.

    Attributes:
        name: The option they were given by.
        feeds: All inputs of one run each, in the network's own batch size and types.
        notes: What a user should know of them, one sentence each.
    """

    name: str
    feeds: Sequence[Feed]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Option:
    """A `--calib` option, taken apart."""

    text: str
    place: str
    settings: Mapping[str, Any]
    net: Net

    def wrong(self, what: str) -> BadInput:
        return BadInput(f"`calib` {self.text}: {what}")

    @property
    def limit(self) -> int:
        return int(self.settings.get("limit", LIMIT))

    def chosen(self, count: int) -> npt.NDArray[np.int64]:
        """Which of so many inputs are taken: evenly spread, or at random where a seed is given."""
        taken = min(count, self.limit)
        if "seed" in self.settings:
            return np.random.default_rng(self.settings["seed"]).permutation(count)[:taken]
        return np.arange(taken) * count // max(1, taken)

    @property
    def only_input(self) -> str:
        """The name of the network's only input. Raises BadInput where there are several."""
        if len(self.net.inputs) > 1:
            raise self.wrong(
                f"{self.net.name} takes {', '.join(self.net.inputs)}; give a .npz file with one array each"
            )
        return next(iter(self.net.inputs))


def load_unlabelled(option: str, net: Net) -> Unlabelled:
    """The inputs that a `--calib` option names.

    Args:
        option: `FILE.npz` (arrays by the names of the inputs; for a network with one input a single array, or
            x_train), `FILE.npy`, a folder of images, `FILE.py:CALLABLE` (returns an array, arrays by name, or samples
            one after the other), or what `--data` takes, of which it is the training split. Settings follow a question
            mark: `limit` (512) and `seed` for all; for folders `size`, `normalize`, `layout`, `colours`, `scale` and
            `preset` (imagenet, clip, half, caffe). Images become as large as the network's input; pictures in bytes are
            divided by 255.
        net: The network.

    Raises:
        BadInput: The option or what it names cannot be used, or does not fit the network.
    """
    place, _, query = option.partition("?")
    path = Path(place).expanduser()
    own = path.is_dir() or path.suffix in (".npz", ".npy") or is_spec(place)
    if not own:
        return _of_data(option, net)
    parsed = _Option(option, place, _settings(option, query), net)
    if path.is_dir():
        samples = _images(parsed, path)
    elif path.suffix == ".npy":
        samples = _arrays(parsed, {parsed.only_input: _npy(parsed, path)})
    elif path.suffix == ".npz":
        samples = _arrays(parsed, _named(parsed, read_npz(path, "`calib`")))
    else:
        samples = _called(parsed)
    return _checked(parsed, samples)


def _settings(option: str, query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        if key not in _SETTINGS or key in found:
            state = "is given twice" if key in found else "is not known here"
            raise BadInput(f"`calib` {option}: {key!r} {state}; the settings are {', '.join(_SETTINGS)}")
        try:
            found[key] = _SETTINGS[key].parse(value)
        except ValueError:
            raise BadInput(f"`calib` {option}: {key} cannot be {value!r}; use {_SETTINGS[key].allowed}") from None
    preset = found.pop("preset", {})
    return {key: _SETTINGS[key].parse(value) for key, value in preset.items()} | found


# -- where inputs come from ------------------------------------------------------------------------------------------


def _of_data(option: str, net: Net) -> Unlabelled:
    """The training split of labelled data; labels are not looked at."""
    try:
        data = load_data(option)
    except BadInput as error:
        text = str(error).replace("`data`", "`calib`")
        more = ", or give FILE.npy or a folder of images" if "is not understood" in text else ""
        raise BadInput(text + more) from error
    if data.train is None:
        raise BadInput(f"`calib` {option}: has no training split, and test data are not for this; give other inputs")
    parsed = _Option(option, option, {}, net)
    try:
        data.train.check(net)
    except BadInput as error:
        raise BadInput(str(error).replace("`data`", f"`calib` {option}")) from error
    index = parsed.chosen(len(data.train))
    name = parsed.only_input
    return _checked(parsed, ({name: data.train.__getitems__([k])[0][0]} for k in index.tolist()))


def _npy(option: _Option, path: Path) -> Array:
    try:
        return np.asarray(np.load(existing_file(path), mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise option.wrong(f"cannot be read as an array ({essence(error)}); save it with numpy.save") from error


def _named(option: _Option, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays by the names of the network's inputs."""
    names = list(option.net.inputs)
    if set(names) <= arrays.keys():
        return {name: arrays[name] for name in names}
    if len(names) == 1:
        usual = [name for name in ("x_train", "x", "inputs") if name in arrays]
        if usual or len(arrays) == 1:
            return {names[0]: arrays[usual[0] if usual else next(iter(arrays))]}
    raise option.wrong(f"holds {', '.join(arrays) or 'nothing'}; {option.net.name} takes {', '.join(names)}")


def _arrays(option: _Option, arrays: Mapping[str, Array]) -> Iterator[Feed]:
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise option.wrong(f"holds so many samples of each input: {listed}; give as many of each, at least one")
    scaled = {name: _scaled(array, option.net, name) for name, array in arrays.items()}
    for k in option.chosen(next(iter(counts.values()))).tolist():
        yield {name: scale(np.asarray(arrays[name][k])) for name, scale in scaled.items()}


def _scaled(array: Array, net: Net, name: str) -> Callable[[Array], Array]:
    """What is done to samples: pictures in bytes become fractions where the network takes floating numbers."""
    if array.dtype == np.uint8 and _kind(net, name).kind not in "biu":
        return lambda sample: sample.astype(np.float32) / 255
    return lambda sample: sample


def _called(option: _Option) -> Iterator[Feed]:
    where, name = split(option.place)
    file = existing_file(Path(where).expanduser())
    with importable(file.absolute().parent):
        make = getattr(executed(file), name, None)
        if not callable(make):
            raise option.wrong(f"{file} has no function {name}")
        try:
            given = make()
            if isinstance(given, np.ndarray) or hasattr(given, "__array__"):
                yield from _arrays(option, {option.only_input: np.asarray(given)})
            elif isinstance(given, Mapping):
                yield from _arrays(option, _named(option, {str(k): np.asarray(v) for k, v in given.items()}))
            else:
                yield from (_sample(option, each) for each in islice(iter(given), option.limit))
        except SlimnetError:
            raise
        except Exception as error:
            raise option.wrong(
                f"{name}() fails ({type(error).__name__}: {essence(error)}); it must return an array, arrays by the "
                "names of the inputs, or samples one after the other"
            ) from error


def _sample(option: _Option, given: Any) -> Feed:
    """One sample of a stream: an array, or arrays by name."""
    if isinstance(given, Mapping):
        return _named(option, {str(k): np.asarray(v) for k, v in given.items()})
    return {option.only_input: np.asarray(given)}


def _images(option: _Option, folder: Path) -> Iterator[Feed]:
    name, settings = option.only_input, option.settings
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise option.wrong(f"holds no images ({', '.join(SUFFIXES)}); give a folder that does")
    shape = option.net.inputs[name]
    if len(shape) != 4:
        raise option.wrong(f"{option.net.name} takes {sizes(shape)}, which are no images; give a .npy file")
    layout = settings.get("layout", "nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw")
    channels, height, width = shape[1:] if layout == "nchw" else (shape[3], *shape[1:3])
    grey = settings.get("colours", "grey" if channels == 1 else "rgb") == "grey"
    whole_numbers = _kind(option.net, name).kind in "biu"
    mean, std = _statistics(option, settings.get("normalize", "none"))
    for k in option.chosen(len(files)).tolist():
        try:
            picture = decode(files[k], settings.get("size", max(height, width)))
        except BadInput as error:
            raise BadInput(str(error).replace("`data`", "`calib`")) from error
        image: Array = _cut(picture, height, width) if "size" not in settings else picture
        image = image[::-1] if settings.get("colours") == "bgr" else image
        if grey:
            image = (image.T @ np.array([0.299, 0.587, 0.114])).T[None]
        if not whole_numbers:
            image = ((image / (255 // settings.get("scale", 1)) - mean) / std).astype(np.float32)
        yield {name: image if layout == "nchw" else image.transpose(1, 2, 0)}


def _cut(image: Array, height: int, width: int) -> Array:
    """The centre of a square picture."""
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def _statistics(option: _Option, name: str) -> tuple[Array, Array]:
    if name == "none":
        return np.zeros((1, 1, 1)), np.ones((1, 1, 1))
    try:
        given = STATISTICS.get(name) or [[float(n) for n in part.split(",")] for part in name.split("/")]
        mean, std = (np.array(part, np.float64).reshape(-1, 1, 1) for part in given)
    except ValueError:
        raise option.wrong(f"normalize cannot be {name!r}; use {_SETTINGS['normalize'].allowed}") from None
    if not (std > 0).all() or {len(mean), len(std)} - {1, 3}:
        raise option.wrong(f"normalize cannot be {name!r}; use {_SETTINGS['normalize'].allowed}")
    return mean, std


# -- whether they fit ------------------------------------------------------------------------------------------------


def _checked(option: _Option, samples: Iterable[Feed]) -> Unlabelled:
    """The samples in batches of the network's size, each checked."""
    found = [{name: _fitting(option, name, array) for name, array in sample.items()} for sample in samples]
    if not found:
        raise option.wrong("gives no inputs; give at least one")
    batch, notes = _batch(option.net), []
    if len(found) < batch:
        raise option.wrong(f"gives {len(found)} inputs, fewer than the batch of {batch} that {option.net.name} takes")
    if rest := len(found) % batch:
        notes.append(f"`calib` {option.text}: {rest} inputs that fill no batch of {batch} are left out")
    if len(found) < FEW:
        notes.append(f"`calib` {option.text}: {len(found)} inputs are few; give {FEW} or more, from real use")
    elif all(np.array_equal(a, b) for one in found[1:] for a, b in zip(found[0].values(), one.values(), strict=True)):
        notes.append(f"`calib` {option.text}: all inputs are the same, which says little; give different ones")
    whole_batches = range(0, len(found) - rest, batch)
    feeds = [{name: np.concatenate([each[name] for each in found[k : k + batch]]) for name in found[0]}
             for k in whole_batches]  # fmt: skip
    return Unlabelled(option.text, feeds, tuple(notes))


def _fitting(option: _Option, name: str, array: Array) -> Array:
    """A sample with its batch axis and in the network's type. Raises BadInput where it does not fit."""
    want, kind = option.net.inputs[name], _kind(option.net, name)
    if array.ndim == len(want) - 1:
        array = array[None]
    fixed = _fixed(option.net, name)
    if array.ndim != len(want) or any(n is not None and n != have for n, have in
                                      zip(fixed[1:], array.shape[1:], strict=True)):  # fmt: skip
        raise option.wrong(f"an input {name} of shape {sizes(array.shape)} does not fit {sizes(want)}")
    if array.dtype.kind not in "biuf" or (kind.kind in "iu" and array.dtype.kind == "f"):
        raise option.wrong(f"input {name} is of type {array.dtype}; {option.net.name} takes {kind}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise option.wrong(f"an input {name} holds values that are not finite; leave those inputs out")
    return array.astype(kind)


def _batch(net: Net) -> int:
    """The batch size that a network is fixed to; 1 where it is not."""
    fixed = [axes[0] for axes in (_fixed(net, name) for name in net.inputs) if axes]
    return next((size for size in fixed if size is not None), 1)


def _fixed(net: Net, name: str) -> list[int | None]:
    """The sizes of an input, None where the graph leaves them open."""
    value = _value(net, name)
    if value.shape is None:
        return [None] * len(net.inputs[name])
    return [size if isinstance(size, int) and size > 0 else None for size in value.shape]


def _kind(net: Net, name: str) -> np.dtype[Any]:
    dtype = _value(net, name).dtype
    return np.dtype(np.float32) if dtype is None else dtype.numpy()


def _value(net: Net, name: str) -> ir.Value:
    return next(value for value in net.model.graph.inputs if value.name == name)
