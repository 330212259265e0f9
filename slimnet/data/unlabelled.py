"""Inputs to calibrate a network with, without labels: from a `--calib` option to what the network is fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.common.python_file import is_spec
from slimnet.data.calib.arrays import read_npy, read_npz
from slimnet.data.calib.folder import SETTINGS, read_folder
from slimnet.data.calib.labelled import is_labelled, read_labelled
from slimnet.data.calib.network import Takes, takes
from slimnet.data.calib.option import COUNTS, VALUES, Option, Sample, read_option
from slimnet.data.calib.option import LIMIT as LIMIT
from slimnet.data.calib.python import read_python
from slimnet.data.calib.values import Feeds, Scaling, scaling
from slimnet.data.sources import forms
from slimnet.graph.net import Net

#: Fewer samples than this are told to be few.
FEW = 16
_FILES: Mapping[str, Callable[[Option, Takes], Sequence[Sample]]] = {".npz": read_npz, ".npy": read_npy}


@dataclass(frozen=True)
class Unlabelled:
    """Inputs without labels.

    Attributes:
        name: The option as it was given.
        feeds: One entry for each run of the network: every input by name, in the batch size and the dtypes of the
            network. An entry is made when it is asked for, so that only the samples as they came are in memory.
        notes: What a user should know, one sentence each.
    """

    name: str
    feeds: Sequence[Mapping[str, np.ndarray]]
    notes: tuple[str, ...] = ()


def load_unlabelled(option: str, net: Net, bounds: Mapping[str, int] | None = None) -> Unlabelled:
    """The inputs that a `--calib` option names, for a network.

    Every form takes at most `limit` samples (512), evenly spread, or drawn at random where `seed` is given. Where all
    inputs have one first axis, it counts samples: a feed has as many as the graph says there, or one where the graph
    leaves it open. Else each sample is a feed as a whole. Bytes for inputs of floats are divided by 255, as `--data`
    does, unless the option says scale=255.

    Args:
        option: One of these, with settings after a question mark as in `images?preset=clip&limit=100`:
            `FILE.npz`, arrays [n, ...] by input name, or x_train, inputs or x for one input; `FILE.npy`, one array;
            `FILE.py:CALLABLE`, a function that gives an array, arrays by name, or samples one by one; these know
            `scale` (1 or 255) and `normalize`, or `mean` and `std`.
            A folder of images (`./digits` where the name is also one of a data set), anywhere in it: as before, and
            `size` of the shorter side, `crop`, `layout` (nchw, nhwc), `colours` (rgb, bgr, grey), `preset` (none,
            imagenet, clip, half, mobilenet, yolo, caffe). Without any, the middle is scaled to what the network takes,
            and pixels are in 0..1; a note tells what became of the images.
            What `--data` knows, with its settings: the inputs of the training split, and never those of test.
        net: The network to be fed.
        bounds: The number of rows of the table that an integer input indexes, by input name, as far as known.

    Raises:
        BadInput: The option, or what it names, cannot be used for this network; one line that says what to give.
    """
    wanted = takes(net)
    asked, samples, scaled, notes = _read(option, wanted)
    for sample in samples:
        wanted.check(sample, asked)
    feeds = Feeds(samples, wanted, asked, scaled, bounds or {})
    if not len(feeds):
        raise asked.wrong(
            f"gives {_counted(len(samples))}, and {net.name} takes {wanted.batch} at one time; give that many at least"
        )
    for _ in feeds:  # values that no network should see are told now, not in the middle of the work
        pass
    told = (*notes, *_notes(samples, wanted, asked))
    return Unlabelled(option, feeds, tuple(f"{asked.where}: {note}" for note in told))


def _read(text: str, net: Takes) -> tuple[Option, Sequence[Sample], Scaling, list[str]]:
    """The option, the samples that it names as they came, what becomes of their values, and what to say of that."""
    place = text.partition("?")[0]
    read = read_python if is_spec(place) else _FILES.get(Path(place).suffix)
    if read is not None:
        option = read_option(text, COUNTS | VALUES, "arrays")
        scaled = scaling(option, net, last=net.sole is not None and bool(net.sole[1].channels_last()))
        samples = read(option, net)
        return option, samples, scaled, list(_of_bytes(samples, net, scaled))
    if is_labelled(place):
        return *read_labelled(text, net), Scaling(), []
    if place and Path(place).expanduser().is_dir():
        option = read_option(text, COUNTS | VALUES | SETTINGS, "a folder of images")
        images, scaled, told = read_folder(option, net)
        return option, images, scaled, [told]
    raise BadInput(
        f"`calib` {text}: is not there, or not understood; use a folder of images, FILE.npy, {forms()}, "
        "each with settings as in ?limit=100"
    )


def _of_bytes(samples: Sequence[Sample], net: Takes, scaled: Scaling) -> Iterator[str]:
    """A sentence for inputs of floats that are given bytes."""
    given = samples[0] if samples else {}
    names = [name for name, value in given.items() if value.dtype == np.uint8]
    names = [name for name in names if name in net.ports and net.ports[name].kind == "floats"]
    if names:
        what = "divided by 255; say scale=255 to keep 0..255" if scaled.pixels == 255 else "kept in 0..255"
        yield f"the bytes of {', '.join(names)} are {what}"


def _notes(samples: Sequence[Sample], net: Takes, option: Option) -> Iterator[str]:
    """What is not wrong, and yet makes calibration worse."""
    count = len(samples)
    if left := count % (net.batch or 1):
        yield f"{_counted(left)} of {count} left out, which fill no batch of {net.batch}"
    if count < option.own.get("limit", 0):
        yield f"there are only {_counted(count)} of the {option.limit} that limit asks for"
    if count < FEW:
        yield f"few: {_counted(count)} may not show what the network usually sees; give {FEW} or more"
    first = samples[0]
    constant = [name for name in net.ports if all(np.array_equal(sample[name], first[name]) for sample in samples)]
    if constant and count > 1:
        yield f"{', '.join(constant)} is the same in all {count} samples; what depends on it is seen at one value only"


def _counted(count: int) -> str:
    return f"{count} sample" if count == 1 else f"{count} samples"
