"""Inputs in batches, also for a network that was written for a batch of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Backend, Feeds
from slimnet.verification.changeable import of_any_size

#: Outputs of a batch and of its inputs one by one differ by no more than this part of the largest.
_ALIKE = 1e-3


def of_any_batch(model: ir.Model, trace: Trace) -> ir.Model:
    """A copy of a network that says nothing about sizes, and whose reshapes to a batch of one take any batch.

    Args:
        model: The traced network, or what surgery has made of it.
        trace: The trace.
    """
    copy = of_any_size(model)
    known = {str(value.name): trace.known(value) for value in trace.values}
    for node in copy.graph:
        target = node.inputs[1] if node.op_type == "Reshape" and not node.domain else None
        if target is None:
            continue
        tensor = target.const_value
        shape = known.get(str(target.name)) if tensor is None else tensor.numpy()
        if shape is not None and shape.ndim == 1 and len(shape) > 1 and shape[0] == 1 and (shape > 0).all():
            name = f"{node.outputs[0].name}|any"
            free = ir.Tensor(np.array([-1, *shape[1:]], np.int64), name=name)
            value = ir.Value(name=name, shape=free.shape, type=ir.TensorType(free.dtype), const_value=free)
            copy.graph.register_initializer(value)
            node.replace_input_with(1, value)
    return copy


def takes_batches(model: ir.Model, trace: Trace, inputs: Sequence[Feeds], backend: Backend) -> bool:
    """Whether `of_any_batch` of a traced network computes for two inputs at once what it computes for each of them."""
    pair = next((alike[:2] for alike in _by_shapes(inputs) if len(alike) > 1), [])
    if not pair or any(array.shape[:1] != (1,) for feed in pair for array in feed.values()):
        return False
    try:
        session = backend.session(of_any_batch(model, trace))
        single = [session.run(feed) for feed in pair]
        both = session.run(together(pair))
    except BadInput:
        return False
    for got, *apart in zip(both, *single, strict=True):
        if any(array.shape[:1] != (1,) for array in apart) or got.shape[0] != len(pair) or got.dtype.kind != "f":
            return False
        wanted = np.concatenate(apart)
        if not np.allclose(got, wanted, rtol=0, atol=_ALIKE * float(np.abs(wanted).max(initial=0)), equal_nan=True):
            return False
    return True


def together(inputs: Sequence[Feeds]) -> Feeds:
    """Several inputs as one batch."""
    return {name: np.concatenate([feed[name] for feed in inputs]) for name in inputs[0]}


def in_batches(inputs: Sequence[Feeds], size: int) -> list[Feeds]:
    """Inputs of one sample each in batches of some size; inputs of different shapes go into different batches."""
    return [together(alike[k : k + size]) for alike in _by_shapes(inputs) for k in range(0, len(alike), size)]


def _by_shapes(inputs: Sequence[Feeds]) -> list[list[Feeds]]:
    """Inputs with those of the same shapes."""
    found: dict[tuple[tuple[int, ...], ...], list[Feeds]] = {}
    for feed in inputs:
        found.setdefault(tuple(array.shape for array in feed.values()), []).append(feed)
    return list(found.values())
