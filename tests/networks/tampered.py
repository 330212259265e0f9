"""Slim files that somebody has tampered with, and whether that changes what they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.graph.net import Net
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import OnnxRuntime

#: A difference of this part of its channel is one: three times what verify accepts.
NOTEWORTHY = 3e-4
#: Elements of one integer or boolean output of which one has to differ, over all inputs.
_RARE = 0.02


def tamperings(model: ir.Model, rng: np.random.Generator, each: int = 2) -> Iterator[tuple[str, ir.Model]]:
    """Copies of a model with one thing changed, so many of each kind where there are any."""
    for kind, change in _KINDS.items():
        names = [name for name, value in model.graph.initializers.items() if _suits(kind, value)]
        for name in rng.permutation(names)[:each] if names else ():
            copy = model.clone()
            value = copy.graph.initializers[str(name)]
            array = value.const_value.numpy().copy()
            change(array, rng)
            value.const_value = ir.Tensor(array, dtype=value.const_value.dtype, name=value.name)
            yield f"{kind} {name}", copy


def _suits(kind: str, value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.size == 0 or not value.uses():
        return False
    if kind == "shape constant":
        return tensor.dtype == ir.DataType.INT64 and any(node.op_type == "Reshape" for node in value.consumers())
    if tensor.dtype != ir.DataType.FLOAT:
        return False
    return len(tensor.shape) == 1 if kind == "bias" else len(tensor.shape) > 1 and max(tensor.shape) > 1


def _weight(array: np.ndarray, rng: np.random.Generator) -> None:
    array.flat[rng.integers(array.size)] += array.std() + 0.01


def _swap(array: np.ndarray, rng: np.random.Generator) -> None:
    axis = int(np.argmax(array.shape[:2]))
    first, second = rng.permutation(array.shape[axis])[:2]
    view = np.moveaxis(array, axis, 0)
    view[[first, second]] = view[[second, first]]


def _drop(array: np.ndarray, rng: np.random.Generator) -> None:
    array[...] = 0


def _shape(array: np.ndarray, rng: np.random.Generator) -> None:
    """What was left to be counted is written down, as for a batch of 1."""
    array[array == -1] = 1


_KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], None]] = {
    "weight": _weight, "swapped channels": _swap, "bias": _drop, "shape constant": _shape
}  # fmt: skip


class Truth:
    """What a slim network computes on inputs that verify does not draw, of the ranges and sizes that it does."""

    def __init__(self, model: ir.Model, net: Net, bounds: dict[str, int], count: int = 6) -> None:
        self._feeds = []
        for seed in range(1000, 1000 + count):
            shapes = self._batch(net, (1, 5)[seed % 2])
            feed = random_inputs(net, shapes, seed, bounds)
            for top in (0.0, 1.0, 255.0):
                rng = np.random.default_rng(seed)
                self._feeds.append({
                    name: array if top == 0 or array.dtype.kind in "biu"
                    else (rng.random(array.shape) * top).astype(array.dtype) for name, array in feed.items()
                })  # fmt: skip
        self._right = self._run(model)

    @staticmethod
    def _batch(net: Net, size: int) -> dict[str, tuple[int, ...]]:
        is_open = all(value.shape and not isinstance(value.shape[0], int) for value in net.model.graph.inputs)
        return {name: (size, *shape[1:]) if is_open else shape for name, shape in net.inputs.items()}

    def _run(self, model: ir.Model) -> list[list[np.ndarray]] | None:
        try:
            session = OnnxRuntime().session(model)
            return [session.run(feed) for feed in self._feeds]
        except BadInput:
            return None

    def changes(self, model: ir.Model) -> bool:
        """Whether a tampered network computes something else."""
        found = self._run(model)
        assert self._right is not None
        if found is None:
            return True
        return any(_differs(list(want), list(got)) for want, got in
                   zip(zip(*self._right, strict=True), zip(*found, strict=True), strict=True))  # fmt: skip


def _differs(want: list[np.ndarray], got: list[np.ndarray]) -> bool:
    if any(a.shape != b.shape for a, b in zip(want, got, strict=True)):
        return True
    if want[0].dtype.kind in "biu":
        flips = [np.count_nonzero(a != b) / max(1, a.size) for a, b in zip(want, got, strict=True)]
        return float(np.mean(flips)) > _RARE
    worst = [np.abs(a.astype(float) - b.astype(float)).max(axis=_others(a), initial=0)
             for a, b in zip(want, got, strict=True)]  # fmt: skip
    sizes = [np.abs(a).max(axis=_others(a), initial=0) for a in want]
    return any(bool((error > NOTEWORTHY * size + 1e-30).any()) for error, size in zip(worst, sizes, strict=True)
               if np.isfinite(size).all())  # fmt: skip


def _others(array: np.ndarray) -> tuple[int, ...]:
    return tuple(k for k in range(array.ndim) if k != 1)
