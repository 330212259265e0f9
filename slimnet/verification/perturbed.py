"""The proof for groups whose weights show nothing: with larger random ones in one kept unit of each.

That slim equals mask does not depend on the weights. Where those of a network are zero, or so small that rounding
drowns what they do, both networks are made again with other weights in a kept unit, and compared; then it has to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Bools
from slimnet.graph.parameters import Role
from slimnet.graph.units import Group, Trace

#: Standard deviations of the weights that are tried, one after the other.
SIZES = (1.0, 1e3, 1e6)


def perturbed(trace: Trace, removed: Bools, groups: Sequence[Group], size: float) -> dict[str, npt.NDArray[Any]]:
    """Weights in which one kept unit of each of these groups is normal noise of this standard deviation."""
    rng = np.random.default_rng(0)
    params, initializers = trace.params(), trace.net.model.graph.initializers
    changed: dict[str, npt.NDArray[Any]] = {}
    for group in groups:
        kept = np.flatnonzero(~removed[group.units])
        for member in group.members if len(kept) else ():
            if member.role & Role.UNTOUCHED or member.tensor not in initializers:
                continue
            array = changed.get(member.tensor)
            if array is None:
                array = np.array(params[member.tensor])
            if array.dtype.kind != "f":
                continue
            part = (slice(None),) * member.axis + (member.index[kept[0]],)
            array[part] = (size * rng.standard_normal(array[part].shape)).astype(array.dtype)
            changed[member.tensor] = array
    return changed
