"""`--calib FILE.py:CALLABLE`: whatever a function in a Python file of the user gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.common.memory import memory
from slimnet.common.python_file import function
from slimnet.data.calib.arrays import rows, sole_input
from slimnet.data.calib.network import Takes
from slimnet.data.calib.option import Option, Sample
from slimnet.data.load import SPLITS


def read_python(option: Option, net: Takes) -> Sequence[Sample]:
    """The samples that a function gives, called without arguments.

    It may return an array [n, ...] for a network with one input, arrays by input name, or samples one after the other
    (a list, a generator, which may be endless, a data loader): each an array or arrays by input name, without the
    batch axis or with it. What it returns for `--data`, {"train": (x, y), ...}, gives the inputs of train.

    Raises:
        BadInput: The file or the function fails, also while it gives samples, or gives something else or nothing.
    """
    found = function(option.place, lambda what: option.wrong(f"{what}; name one of its functions"))
    with found as (name, make), _told(option, name):
        return _collected(make, name, net, option)


@contextmanager
def _told(option: Option, name: str) -> Iterator[None]:
    """Tell in one line of whatever the user's code raises."""
    try:
        yield
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        raise option.wrong(f"{name}() fails ({type(error).__name__}: {essence(error)}); repair it") from error


def _collected(make: Callable[[], Any], name: str, net: Takes, option: Option) -> Sequence[Sample]:
    made = make()
    if isinstance(made, Mapping) and made.keys() <= set(SPLITS) and not made.keys() <= net.ports.keys():
        made = _train_inputs(made, name, option)
    if isinstance(made, Mapping):
        return rows({str(key): np.asarray(value) for key, value in made.items()}, net, option)
    if hasattr(made, "__array__"):
        return rows({sole_input(net, option): np.asarray(made)}, net, option)
    samples: list[Sample] = []
    size = 0
    for given in _chosen(made, name, option):
        new = _samples(given, net, option)[: option.limit - len(samples)]
        for sample in new:  # at once, for the generator may be slow
            net.check(sample, option)
        samples += new
        size += sum(value.nbytes for sample in new for value in sample.values())
        if size > memory() // 2:
            raise option.wrong(f"{len(samples)} samples of {name}() fill half of the memory; give a smaller limit")
        if len(samples) == option.limit:
            break
    if not samples:
        raise option.wrong(f"{name}() gives no samples; let it give some")
    return samples


def _train_inputs(splits: Mapping[str, Any], name: str, option: Option) -> Any:
    """The inputs of train, of what the function returns for `--data`."""
    if (train := splits.get("train")) is None:
        raise option.wrong(f"{name}() returns no train, and test is kept for testing; let it return train")
    if isinstance(train, tuple | list):
        return np.asarray(train[0])
    return (train[k][0] for k in range(len(train)))


def _chosen(made: Any, name: str, option: Option) -> Iterable[Any]:
    """The samples that are taken: chosen by the option where all can be had by number, else from the first on."""
    if hasattr(made, "__len__") and hasattr(made, "__getitem__"):
        return (made[int(k)] for k in option.chosen(len(made)))
    if "seed" in option.own:
        raise option.wrong(f"{name}() gives samples one by one, of which seed cannot draw; leave seed out")
    try:
        return iter(made)
    except TypeError:
        raise option.wrong(
            f"{name}() returns {type(made).__name__}; it must return an array, arrays by input name, or samples"
        ) from None


def _samples(given: Any, net: Takes, option: Option) -> list[Sample]:
    """What the function gives at one time, as samples without the batch axis."""
    if isinstance(given, tuple):
        raise option.wrong("gives tuples; give each sample as an array, or as arrays by input name, without its label")
    named = given if isinstance(given, Mapping) else {sole_input(net, option): given}
    # Copies, for a generator may fill the same array again.
    arrays = {str(key): np.asarray(value).copy() for key, value in named.items()}
    batched = [key for key, port in net.ports.items() if port.batched]
    with_axis = [key for key in batched if key in arrays and arrays[key].ndim == net.ports[key].rank + 1]
    if not with_axis or len(with_axis) < len(batched):
        return [arrays]
    counts = {len(arrays[key]) for key in with_axis}
    if len(counts) > 1:
        listed = ", ".join(f"{len(arrays[key])} of {key}" for key in with_axis)
        raise option.wrong(f"gives {listed} at one time; give as many samples of every input")
    return [
        {key: value[k] if key in with_axis else value for key, value in arrays.items()} for k in range(counts.pop())
    ]
