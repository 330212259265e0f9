"""What networks are compared on: real inputs first, then random ones of several ranges and sizes.

A file that breaks at another batch size, or that differs only for pixels up to 255, must not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx_ir as ir

from slimnet.common.inputs import sizes
from slimnet.graph.branches import deciding_values
from slimnet.graph.units import Trace
from slimnet.io.inputs import symbol_of
from slimnet.runtime.feeds import Feeds, fed_inputs, index_bounds, random_inputs

#: So many standard normal inputs are enough for what slimnet has made, and draw one of every other range.
RUNS = 3
#: As many tell whether somebody changed a file: what one weight moves shows on few inputs.
THOROUGH = 12
#: How the standard normal inputs are called.
NORMAL = "normal"
#: Ranges that floating inputs are drawn from besides the standard normal distribution: fractions, and pixels.
RANGES = {"0 to 1": 1.0, "0 to 255": 255.0}
#: Inputs for each value that may choose a branch: of one alone, the heaviest channels may all be behind a Relu.
BRANCH_RUNS = 3
#: At most so many sets of inputs are drawn to read every row of a table.
MAX_COVERING = 512
#: The other batch size that is tried where the network leaves it open.
BATCH = 3
#: Sizes from here on are tried a step larger, so that what is a multiple of 32 stays one; smaller ones twice as large.
_LARGE, _STEP = 64, 32

#: Pictures from twice this size on are made smaller by this factor, to a multiple of `_STEP` that is no less than this.
_SMALL, _SMALLER = 64, 4

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Draw:
    """One set of inputs.

    Attributes:
        what: What it shows, such as "0 to 255" or "x=3x8".
        feed: The inputs.
        optional: Whether it is left out where the dense network cannot be run on it, or gives no finite number.
        instead: Of several optional draws with this name, the first that runs is enough.
        branch: Whether it may take branches that other draws do not, where groups show on it alone.
    """

    what: str
    feed: Feeds
    optional: bool = False
    instead: str = ""
    branch: bool = False


def draws(trace: Trace, given: Iterable[Feeds] | None, runs: int) -> list[Draw]:
    """All inputs to compare on: the given ones, so many standard normal ones, other ranges, and other sizes.

    Args:
        trace: The trace of the dense network.
        given: Real inputs, which come first.
        runs: The number of standard normal inputs.
    """
    net, bounds, seeds = trace.net, index_bounds(trace), count()
    found = [Draw("given", feed) for feed in given or ()]
    optional = bool(found)
    found += [Draw(NORMAL, random_inputs(net, net.inputs, next(seeds), bounds), optional) for _ in range(runs)]
    if runs and any(array.dtype.kind not in "biu" for array in found[-1].feed.values()):
        for what, top in RANGES.items():
            for _ in range(max(1, runs // RUNS)):
                feed = random_inputs(net, net.inputs, next(seeds), bounds)
                found.append(Draw(what, _evenly(feed, top, next(seeds)), True))
    for name, values in deciding_values(net.model).items() if runs else ():
        for value in values * BRANCH_RUNS:
            feed = random_inputs(net, net.inputs, next(seeds), bounds)
            chosen = np.full_like(feed[name], value)
            found.append(Draw(f"{name}={value:g}", {**feed, name: chosen}, True, branch=True))
    if runs:
        for which, shapes in other_sizes(net.model, net.inputs):
            feed = random_inputs(net, shapes, next(seeds), bounds)
            changed = ", ".join(f"{name}={sizes(shape)}" for name, shape in shapes.items() if shape != net.inputs[name])
            found.append(Draw(changed, feed, True, which))
    return found


def covering(trace: Trace) -> tuple[list[Draw], bool]:
    """Inputs that between them read every row of the tables that they index.

    Returns:
        The inputs, at most `MAX_COVERING` sets, and whether they read every row.
    """
    net, bounds = trace.net, index_bounds(trace)
    feeds = [random_inputs(net, net.inputs, 0, bounds)] if bounds else []
    needed = max((-(-bound // max(1, feed[name].size)) for feed in feeds for name, bound in bounds.items()), default=0)
    found = []
    for k in range(min(needed, MAX_COVERING)):
        feed = random_inputs(net, net.inputs, k, bounds)
        for name, bound in bounds.items():
            ids = np.arange(feed[name].size) + k * feed[name].size
            feed[name] = (ids % bound).reshape(feed[name].shape).astype(feed[name].dtype)
        found.append(Draw("every row", feed))
    return found, needed <= MAX_COVERING


def _evenly(feed: Feeds, top: float, seed: int) -> Feeds:
    """The same inputs with the floating ones drawn evenly from 0 to `top`."""
    rng = np.random.default_rng(seed)
    return {name: array if array.dtype.kind in "biu" else (rng.random(array.shape) * top).astype(array.dtype)
            for name, array in feed.items()}  # fmt: skip


def other_sizes(model: ir.Model, inputs: Shapes) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """Other shapes of the inputs, where the graph leaves sizes open: another batch, and the rest larger in two ways.

    Axes of one symbol, and axes without a name that have the same size, change together.
    """
    values = fed_inputs(model)
    open_axes = {(name, axis): _symbol(value, axis) or f"#{inputs[name][axis]}"
                 for name, value in values.items() if name in inputs and value.shape is not None
                 for axis in range(len(inputs[name])) if _is_open(value, axis)}  # fmt: skip
    batch = {symbol for (_, axis), symbol in open_axes.items() if axis == 0}
    rest = set(open_axes.values()) - batch
    if batch:
        yield "batch", _changed(inputs, open_axes, batch, lambda n: BATCH if n < BATCH else n + 1)
    if rest:
        yield "sizes", _changed(inputs, open_axes, rest, lambda n: n + _STEP if n >= _LARGE else 2 * n)
        yield "sizes", _changed(inputs, open_axes, rest, lambda n: n + 1)


def small_pictures(inputs: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes with large pictures and volumes made small, whether or not the graph leaves their sizes open."""

    def smaller(size: int) -> int:
        return max(_SMALL, size // _SMALLER // _STEP * _STEP) if size >= 2 * _SMALL else size

    return {name: (*shape[:2], *map(smaller, shape[2:])) if len(shape) > 3 else shape for name, shape in inputs.items()}


def _is_open(value: ir.Value, axis: int) -> bool:
    size = value.shape[axis] if value.shape is not None and axis < len(value.shape) else None
    return not isinstance(size, int) or size <= 0


def _symbol(value: ir.Value, axis: int) -> str | None:
    size = value.shape[axis] if value.shape is not None else None
    return symbol_of(size) if isinstance(size, ir.SymbolicDim) else None


def _changed(
    inputs: Shapes, axes: Mapping[tuple[str, int], str], which: set[str], larger: Callable[[int], int]
) -> dict[str, tuple[int, ...]]:
    return {name: tuple(larger(n) if axes.get((name, k)) in which else n for k, n in enumerate(shape))
            for name, shape in inputs.items()}  # fmt: skip
