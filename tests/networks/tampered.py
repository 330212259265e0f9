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
#: The upper ends of the ranges of the inputs; 0 stands for standard normal ones.
_TOPS = (0.0, 1.0, 255.0)
RANGES = len(_TOPS)
#: What the runtime's own optimisations move a channel by may be exceeded so many times.
_SPARE = 10
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
            for top in _TOPS:
                rng = np.random.default_rng(seed)
                self._feeds.append({
                    name: array if top == 0 or array.dtype.kind in "biu"
                    else (rng.random(array.shape) * top).astype(array.dtype) for name, array in feed.items()
                })  # fmt: skip
        self._right, self._plain = self._run(model), self._run(model, optimise=False)

    @staticmethod
    def _batch(net: Net, size: int) -> dict[str, tuple[int, ...]]:
        is_open = all(value.shape and not isinstance(value.shape[0], int) for value in net.model.graph.inputs)
        return {name: (size, *shape[1:]) if is_open else shape for name, shape in net.inputs.items()}

    def _run(self, model: ir.Model, optimise: bool = True) -> list[list[np.ndarray]] | None:
        try:
            session = OnnxRuntime().session(model, optimise)
            return [session.run(feed) for feed in self._feeds]
        except BadInput:
            return None

    def changes(self, model: ir.Model) -> bool:
        """Whether a tampered network computes something else."""
        found = self._run(model)
        assert self._right is not None
        assert self._plain is not None
        if found is None:
            return True
        outputs = zip(*(zip(*side, strict=True) for side in (self._right, self._plain, found)), strict=True)
        return any(_differs(*(list(side[k::RANGES]) for side in sides)) for sides in outputs for k in range(RANGES))


def _differs(want: list[np.ndarray], plain: list[np.ndarray], got: list[np.ndarray]) -> bool:
    if any(a.shape != b.shape for a, b in zip(want, got, strict=True)):
        return True
    if want[0].dtype.kind in "biu":
        flips = [np.count_nonzero(a != b) / max(1, a.size) for a, b in zip(want, got, strict=True)]
        return float(np.mean(flips)) > _RARE
    # What a channel is worth is read off all inputs of a range: single numbers happen to be near zero for one.
    errors, noise = ([np.abs(a.astype(float) - b.astype(float)).max(axis=_others(a), initial=0)
                      for a, b in zip(want, other, strict=True)] for other in (got, plain))  # fmt: skip
    sizes = [np.abs(a).max(axis=_others(a), initial=0) for a in want]
    if len({size.shape for size in sizes}) == 1:
        sizes, noise = ([np.maximum.reduce(parts)] * len(parts) for parts in (sizes, noise))
    allowed = [NOTEWORTHY * size + _SPARE * floor + 1e-30 for size, floor in zip(sizes, noise, strict=True)]
    return any(bool((error > limit).any()) for error, limit in zip(errors, allowed, strict=True)
               if np.isfinite(limit).all())  # fmt: skip


def _others(array: np.ndarray) -> tuple[int, ...]:
    return tuple(k for k in range(array.ndim) if k != 1)
