"""`--calib digits`, `mnist:DIR` and whatever else `--data` knows: the inputs of its training split."""

from __future__ import annotations

import numpy as np

from slimnet.common.entry_points import installed
from slimnet.common.errors import BadInput
from slimnet.common.memory import check_size
from slimnet.data.calib.arrays import sole_input
from slimnet.data.calib.network import Takes
from slimnet.data.calib.option import COUNTS, Option, Rows, read_option
from slimnet.data.load import load_data
from slimnet.data.sources import GROUP, built_in


def is_labelled(place: str) -> bool:
    """Whether an option, without its settings, has a form that `--data` knows."""
    known = any(source.place(place) is not None for source in built_in())
    return known or place.partition(":")[0] in installed(GROUP).names


def read_labelled(text: str, net: Takes) -> tuple[Option, Rows]:
    """The option, and the samples of the training split, scaled and normalised as `--data` does; never those of test.

    The settings are those of `--data`, but for limit and seed, which choose samples as in every form of this option.

    Raises:
        BadInput: The data cannot be read, or have no training split.
    """
    place, _, query = text.partition("?")
    items = query.split("&")
    own = [item for item in items if item.partition("=")[0] in COUNTS]
    others = "&".join(item for item in items if item not in own)
    option = read_option(f"{place}?{'&'.join(own)}", COUNTS, "calib")
    option = Option(text, place, query, option.own)
    try:
        data = load_data(f"{place}?{others}" if others else place)
    except BadInput as error:  # the messages name the option that this form comes from
        raise BadInput(str(error).replace("`data`", "`calib`")) from error
    if data.train is None:
        raise option.wrong("has only a test split, which is kept for testing; give data with a training split")
    name = sole_input(net, option)
    train = data.train.take(option.chosen(len(data.train)))
    check_size((len(train), *train.shape), f"{option.where}: what is taken", 8, "give a smaller limit")
    every = np.arange(len(train))
    x = train.__getitems__(every)[0] if net.ports[name].kind == "floats" else train.x[every]
    return option, Rows({name: x}, every)
