"""What a sliding window leaves of the axes that it slides over."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Labels, fixed, is_live, signed
from slimnet.graph.op import Axes, Op

#: Operators on floats, for which zeros can be put in.
_SLIDES = ("Conv", "AveragePool", "LpPool")


def slid_over(op: Op, space: Sequence[int], kernel: Sequence[int], x: int = 0) -> tuple[Axes, Axes]:
    """The labels of the spatial axes that come out, and for each axis those of the windows that are computed.

    Where windows lie side by side, as those of a maxout or of a kernel of one element do, a window is removed as a
    whole with what is made of it. Where they overlap and follow each other without a gap, as those of a convolution
    over channels do, what is removed is seen as zero by its neighbours. Any other axis is read as a whole.

    Args:
        op: The node, with attributes `strides`, `pads` and `dilations`, or their defaults.
        space: The spatial output sizes.
        kernel: The sizes of the window.
        x: The place of the input that is slid over, whose spatial axes are the third and those behind.
    """
    pairs = [_slid_over(op, x, k, count, width) for k, (count, width) in enumerate(zip(space, kernel, strict=True))]
    return [out for out, _ in pairs], [windows for _, windows in pairs]


def _slid_over(op: Op, x: int, k: int, count: int, width: int) -> tuple[Labels, Labels]:
    if (labels := _side_by_side(op, x, k, count, width)) is not None:
        return labels, labels
    centres = _centres(op, x, k, count, width)
    return (fixed(count), fixed(count)) if centres is None else op.slide(x, k + 2, centres)


def _side_by_side(op: Op, x: int, k: int, count: int, width: int) -> Labels | None:
    labels, stride, dilation, pads = _along(op, x, k)
    dense = stride == width and (width == 1 or dilation == 1)
    if not is_live(labels) or not dense or any(pads) or count * width != len(labels):
        return None
    windows = op.axis(x, k + 2).reshape(count, width)
    for column in windows.T[1:]:
        op.same(windows[:, 0], column)
    return signed(windows[:, 0], np.logical_and.reduce(windows > 0, axis=1))


def _centres(op: Op, x: int, k: int, count: int, width: int) -> npt.NDArray[np.int64] | None:
    """The position of the middle of each window; None where nothing goes with it."""
    labels, stride, dilation, pads = _along(op, x, k)
    if not is_live(labels) or op.kind not in _SLIDES or stride != 1 or op.text("auto_pad", "NOTSET") != "NOTSET":
        return None
    first = width // 2 * dilation - pads[0]
    return None if first < 0 or first + count > len(labels) else np.arange(first, first + count)


def _along(op: Op, x: int, k: int) -> tuple[Labels, int, int, tuple[int, int]]:
    """Labels, stride, dilation and padding along a spatial axis."""
    rank = op.rank(x) - 2
    strides, dilations = (op.attr(name) or [1] * rank for name in ("strides", "dilations"))
    pads = op.attr("pads") or [0] * (2 * rank)
    return op.peek(x)[k + 2], strides[k], dilations[k], (pads[k], pads[k + rank])


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
