"""`--data FILE.npz`: arrays that numpy has saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.common.files import read_npz
from slimnet.data.source import Source

if TYPE_CHECKING:
    from slimnet.data.samples import Samples
    from slimnet.data.spec import Spec


def read(spec: Spec) -> Mapping[str, Samples]:
    """The splits of arrays x_train, y_train, x_val, y_val, x_test and y_test; of x and y alone, the test split.

    Raises:
        BadInput: The file is no .npz file of plain arrays, or holds others.
    """
    from slimnet.data.samples import labelled

    arrays = read_npz(Path(spec.place).expanduser(), "`data`")
    names = {split: (f"x_{split}", f"y_{split}") for split in ("train", "val", "test")}
    if arrays.keys().isdisjoint(name for pair in names.values() for name in pair):
        names = {"test": ("x", "y")}
    pairs = {split: pair for split, pair in names.items() if split == "test" or not arrays.keys().isdisjoint(pair)}
    if missing := [name for pair in pairs.values() for name in pair if name not in arrays]:
        raise spec.wrong(
            f"holds {', '.join(arrays) or 'nothing'}, but not {' and '.join(missing)}; it needs arrays x and y, "
            "or x_train, y_train, x_test and y_test"
        )
    return {split: labelled(arrays[x], arrays[y], f"`data` {spec.text}: {x}, {y}") for split, (x, y) in pairs.items()}


SOURCES = (Source(name="npz", form="FILE.npz", read=read),)
