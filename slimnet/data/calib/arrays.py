"""`--calib FILE.npz` and `FILE.npy`: arrays that numpy has saved."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from slimnet.common.files import essence, existing_file
from slimnet.common.memory import check_size
from slimnet.data.calib.network import Takes
from slimnet.data.calib.option import Option, Rows

#: Arrays of labelled data: never inputs, unless an input has that name.
_LABELS = ("y", "y_train", "y_val", "y_test")
_OTHER_SPLITS = ("x_val", "x_test")
_SPLITS = ("x_train", *_OTHER_SPLITS, *_LABELS)


def read_npz(option: Option, net: Takes) -> Rows:
    """The samples of an .npz file: an array [n, ...] for each input by its name.

    For a network with one input it may also be called x_train, inputs or x, or have any name where it is the only one.
    What is called x_test is never used; neither is x beside y, which is how `--data` knows test data.

    Raises:
        BadInput: The file is no .npz file of plain arrays, too large for memory, or lacks an input.
    """
    file = existing_file(Path(option.place).expanduser())
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            wanted = _wanted(members, net, option)
            arrays = {name: _member(archive, members[held], option) for name, held in wanted.items()}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise option.wrong(
            f"{file} is not an .npz file of plain arrays ({essence(error)}); write it with numpy.savez"
        ) from error
    return rows(arrays, net, option)


def read_npy(option: Option, net: Takes) -> Rows:
    """The samples of an .npy file, an array [n, ...]; it stays on disk, and only the samples that are taken are read.

    Raises:
        BadInput: The file holds no plain array, or the network has several inputs.
    """
    file = existing_file(Path(option.place).expanduser())
    try:
        array = np.lib.format.open_memmap(file, mode="r")  # of plain arrays only, as np.load would not
    except (ValueError, OSError, EOFError) as error:
        raise option.wrong(f"{file} is not a plain array ({essence(error)}); write it with numpy.save") from error
    return rows({sole_input(net, option): array}, net, option)


def rows(arrays: Mapping[str, np.ndarray], net: Takes, option: Option) -> Rows:
    """Arrays [n, ...] by input name as samples, of which the option chooses.

    Raises:
        BadInput: They are empty, or differ in their number of samples.
    """
    for name, array in arrays.items():
        if array.ndim == 0 or (name in net.ports and array.ndim != net.ports[name].rank + 1):
            wanted = net.ports[name].wanted.replace("scalar", "") if name in net.ports else "..."
            shape = "x".join(filter(None, ("n", wanted)))
            raise option.wrong(
                f"{name} has shape {list(array.shape)}; give samples along the first axis, {shape}, for {net.name}"
            )
        if not array.size:
            raise option.wrong(f"{name} has shape {list(array.shape)}, which holds no samples; give some")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise option.wrong(f"holds {listed}; give one sample of every input for each")
    return Rows(arrays, option.chosen(next(iter(counts.values()), 0)))


def sole_input(net: Takes, option: Option) -> str:
    """The name of the only input. Raises BadInput where there are several."""
    if net.sole is None:
        raise option.wrong(f"is one array, and {net.name} takes {net.listed}; give arrays by these names")
    return net.sole[0]


def _wanted(held: Collection[str], net: Takes, option: Option) -> Mapping[str, str]:
    """The array that holds the samples of each input."""
    names = list(net.ports)
    holds = f"holds {', '.join(held) or 'nothing'}"
    if "x_train" not in held and "y" in held and "x" in held and "y" not in names:
        raise option.wrong(
            f"{holds}: x with y is test data to `data`; name what may be calibrated on x_train or inputs"
        )
    if set(names) <= set(held):
        if unknown := [name for name in held if name not in (*names, *_SPLITS)]:
            raise option.wrong(f"{holds}, but {net.name} takes no {unknown[0]}; its inputs are {', '.join(names)}")
        return {name: name for name in names}
    inputs = [name for name in held if name not in (*_LABELS, *_OTHER_SPLITS)]
    if len(names) == 1:
        usual = next((name for name in ("x_train", "inputs", "x") if name in held), None)
        if usual is not None or len(inputs) == 1:
            return {names[0]: usual or inputs[0]}
    if not inputs and "x_test" in held:
        raise option.wrong(f"{holds}: only test data, which are kept for testing; give x_train")
    raise option.wrong(f"{holds}, and {net.name} takes {net.listed}; give an array [n, ...] by each name")


def _member(archive: zipfile.ZipFile, name: str, option: Option) -> np.ndarray:
    """One array, read after its header has been held against the size of the file and of memory.

    Raises:
        ValueError: It is no plain array, or its header promises more than there is.
        BadInput: It would not fit into memory.
    """
    with archive.open(name) as stream:
        shape, dtype = _header(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled objects")
    if math.prod(shape) * dtype.itemsize > archive.getinfo(name).file_size:
        raise ValueError(f"{name} is shorter than its header says")
    check_size(shape, f"{option.where}: {name}", max(dtype.itemsize, 1), "give fewer samples, or save them as .npy")
    with archive.open(name) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype of an array. Raises ValueError for one with names of fields, as nobody gives to a network."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = readers[version](stream)
    return shape, dtype
