"""Sizes that a sliding window leaves, for operators whose shapes the ONNX standard does not infer."""

import math
from collections.abc import Sequence

from slimnet.graph.op import Op


def windowed(op: Op, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Spatial output sizes of a convolution or pooling, from the attributes that all of them share.

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
