"""Weights of a file that differ from what they should be although no input shows it.

A row of a table that no drawn index reads, or the weights of a branch that is never taken, can be anything: the outputs
say nothing about them. The weights themselves do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.verification.comparison import Comparison

#: Elements differ when they are apart by more than the tolerance, and by more than this part of the largest one.
_NEGLIGIBLE = 1e-6


def silent_changes(comparison: Comparison, candidate: ir.Model, made: Sequence[ir.Model]) -> dict[str, float]:
    """The weights of a candidate that are not as made, where putting one back changes nothing that is compared.

    A weight that is put back alone and does show is no fault: another one makes up for it, as where a tool has fused a
    batch norm into a layer. Weights of other names, shapes or types are left to the outputs.

    Args:
        comparison: The comparison that has found the candidate equal to the masked network.
        candidate: The network that somebody else may have changed.
        made: What it may have been made as, such as the slim network before and after it is optimised.

    Returns:
        For each such weight its largest difference, relative to the largest element.
    """
    found = {}
    for name, value in candidate.graph.initializers.items():
        tensor, others = value.const_value, _alike(name, value, made)
        if tensor is None or not others:
            continue
        array = _numbers(tensor)
        apart = [(_apart(_numbers(other), array, comparison.tolerance), other) for other in others]
        if all(share for share, _ in apart) and not any(_shows(comparison, candidate, name, t) for _, t in apart):
            found[name] = min(share for share, _ in apart)
    return found


def _alike(name: str, value: ir.Value, made: Sequence[ir.Model]) -> list[ir.TensorProtocol]:
    """The tensors of this name, shape and type that hold numbers."""
    tensors = [model.graph.initializers[name].const_value for model in made if name in model.graph.initializers]
    like = value.const_value
    return [
        tensor
        for tensor in tensors
        if tensor is not None and like is not None and (tensor.dtype, tensor.shape) == (like.dtype, like.shape)
        and tensor.dtype != ir.DataType.STRING
    ]  # fmt: skip


def _numbers(tensor: ir.TensorProtocol) -> npt.NDArray[np.float64]:
    return tensor.numpy().astype(np.float64)


def _apart(want: npt.NDArray[np.float64], got: npt.NDArray[np.float64], tolerance: float) -> float:
    """The largest difference relative to the largest element; 0 where the two are equal."""
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0))
    if np.allclose(got, want, rtol=tolerance, atol=_NEGLIGIBLE * largest, equal_nan=True):
        return 0.0
    apart = np.abs(got - want)
    return float(apart.max(initial=0) / largest) if largest and np.isfinite(apart).all() else np.inf


def _shows(comparison: Comparison, candidate: ir.Model, name: str, tensor: ir.TensorProtocol) -> bool:
    """Whether the comparison notices that this one weight is put back."""
    copy = candidate.clone()
    copy.graph.initializers[name].const_value = tensor
    found = comparison.outputs_of(copy, "the slim network")
    return any(comparison.notices(outputs, on) for on, outputs in enumerate(found))
