"""`--data FILE.py:CALLABLE`: whatever a function in a Python file of the user returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slimnet.common.files import essence
from slimnet.common.python_file import function
from slimnet.data.source import Source

if TYPE_CHECKING:
    import numpy as np

    from slimnet.data.samples import Samples
    from slimnet.data.spec import Spec


def read(spec: Spec) -> Mapping[str, Samples]:
    """What the callable returns: splits by name, each a pair of arrays or tensors, or a torch data set.

    Raises:
        BadInput: The file or the callable fails, or returns something else.
    """
    from slimnet.data.samples import labelled

    with function(spec.place, spec.wrong) as (name, make):
        try:
            splits = make()
            parts = {key: _arrays(value) for key, value in splits.items() if value is not None}
        except Exception as error:
            raise spec.wrong(
                f"{name}() fails, or does not return pairs of arrays ({type(error).__name__}: {essence(error)}); "
                'it must return {"train": (x, y), "test": (x, y)}'
            ) from error
    if "test" not in parts or not parts.keys() <= {"train", "val", "test"}:
        found = ", ".join(map(str, parts)) or "nothing"
        raise spec.wrong(f"{name}() returns {found}; it must return test, and may return train and val")
    return {key: labelled(x, y, f"`data` {spec.text}: {key}") for key, (x, y) in parts.items()}


def _arrays(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """A pair as it is, or the samples of a data set stacked."""
    import numpy as np

    if not isinstance(part, tuple | list):
        samples = [part[k] for k in range(len(part))]
        part = np.stack([np.asarray(x) for x, _ in samples]), np.asarray([int(y) for _, y in samples])
    x, y = part
    return np.asarray(x), np.asarray(y)


SOURCES = (Source(name="py", form="FILE.py:CALLABLE", read=read),)
