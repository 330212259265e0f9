"""What a sliding window leaves of the axes that it slides over."""

import math
from collections.abc import Sequence

import numpy as np

from slimnet.graph.axes import Labels, fixed, is_live, signed
from slimnet.graph.op import Axes, Op


def slid_over(op: Op, space: Sequence[int], kernel: Sequence[int], x: int = 0) -> Axes:
    """The labels of the spatial axes that come out.

    Where windows lie side by side, as those of a maxout or of a kernel of one element do, a window is removed as a
    whole with what is made of it. Any other axis is read as a whole.

    Args:
        op: The node, with attributes `strides`, `pads` and `dilations`, or their defaults.
        space: The spatial output sizes.
        kernel: The sizes of the window.
        x: The place of the input that is slid over, whose spatial axes are the third and those behind.
    """
    return [_slid_over(op, x, k, n, kernel[k]) for k, n in enumerate(space)]


def _slid_over(op: Op, x: int, k: int, count: int, width: int) -> Labels:
    rank, labels = op.rank(x) - 2, op.peek(x)[k + 2]
    strides, dilations = (op.attr(name) or [1] * rank for name in ("strides", "dilations"))
    pads = op.attr("pads") or [0] * (2 * rank)
    dense = strides[k] == width and (width == 1 or dilations[k] == 1)
    if not (is_live(labels) and dense and pads[k] == pads[k + rank] == 0 and count * width == len(labels)):
        return fixed(count)
    windows = op.axis(x, k + 2).reshape(count, width)
    for column in windows.T[1:]:
        op.same(windows[:, 0], column)
    return signed(windows[:, 0], np.logical_and.reduce(windows > 0, axis=1))


def windowed(op: Op, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Spatial output sizes of a convolution or pooling whose shapes the ONNX standard does not infer.

    Args:
        op: The node, with attributes `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode`, or their defaults.
        size: The spatial input sizes.
        kernel: The sizes of the window.
    """
    rank = len(size)
    strides = op.attr("strides") or [1] * rank
    if op.text("auto_pad", "NOTSET").startswith("SAME"):
        return [-(-n // step) for n, step in zip(size, strides, strict=True)]
    pads = [0] * (2 * rank) if op.text("auto_pad", "NOTSET") == "VALID" else op.attr("pads") or [0] * (2 * rank)
    dilations = op.attr("dilations") or [1] * rank
    out = []
    for k, step in enumerate(strides):
        room = size[k] + pads[k] + pads[k + rank] - dilations[k] * (kernel[k] - 1) - 1
        count = (math.ceil if op.attr("ceil_mode", 0) else math.floor)(room / step) + 1
        # A last window that would begin behind the input is left out.
        out.append(count - 1 if op.attr("ceil_mode", 0) and (count - 1) * step >= size[k] + pads[k] else count)
    return out
