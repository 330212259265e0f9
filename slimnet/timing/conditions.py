"""What a latency depends on beside the model: what is fed, the runtime and the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Inputs, parse_inputs
from slimnet.graph.net import Net
from slimnet.io.constants import Constants
from slimnet.io.inputs import net_of, symbol_of
from slimnet.io.onnx_file import load_onnx
from slimnet.runtime.backend import Model, RuntimeInfo, title
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.onnxruntime import NAME


@dataclass(frozen=True)
class Conditions:
    """What was fed, and what it was run with.

    Attributes:
        inputs: The concrete input shapes.
        bounds: Exclusive upper bounds of integer inputs; 2 for those that are not named.
        seed: The seed that the inputs are drawn with.
        runtime: The runtime, its settings and the machine.
    """

    inputs: dict[str, tuple[int, ...]]
    bounds: dict[str, int]
    seed: int
    runtime: RuntimeInfo

    def feed(self, model: ir.Model) -> dict[str, np.ndarray]:
        """The inputs themselves, in the types that `model` takes."""
        return random_inputs(model, self.inputs, self.seed, self.bounds)

    def to_json(self) -> dict[str, Any]:
        """Plain values; the runtime's version stands under its name, beside the machine it ran on."""
        runtime = self.runtime
        return {
            "inputs": self.inputs,
            "bounds": self.bounds,
            "seed": self.seed,
            "threads": runtime.threads,
            "runtime": runtime.name,
            "provider": runtime.provider,
            "machine": {runtime.name: runtime.version, "cpu": runtime.cpu, "cores": runtime.cores},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Conditions:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else.

        What was written before other runtimes could be chosen names none: it was onnxruntime.
        """
        machine, name = document["machine"], str(document.get("runtime", NAME))
        return cls(
            inputs={str(name): tuple(int(n) for n in shape) for name, shape in document["inputs"].items()},
            bounds={str(name): int(bound) for name, bound in document["bounds"].items()},
            seed=int(document["seed"]),
            runtime=RuntimeInfo(
                name=name,
                version=str(machine[name]),
                provider=document.get("provider"),
                threads=None if document["threads"] is None else int(document["threads"]),
                cpu=str(machine["cpu"]),
                cores=int(machine["cores"]),
            ),
        )


def as_net(model: Model, inputs: Inputs = None, batch: int | None = None, constants: Constants | None = None) -> Net:
    """A model with concrete input shapes: what the model fixes, what `inputs` says, and `batch` for the first axis.

    Raises BadInput for a file that cannot be read, a shape that does not fit or is not known, and for a batch where the
    model fixes another one.
    """
    if isinstance(model, ir.Model):
        net = net_of(model, title(model), parse_inputs(inputs), title(model))
    else:
        net = load_onnx(model, inputs, constants)
    if batch is not None:
        net.inputs = _batched(net, batch, title(model))
    return net


def _batched(net: Net, batch: int, where: str) -> dict[str, tuple[int, ...]]:
    if batch < 1:
        raise BadInput(f"`batch` {batch}: a batch holds at least one sample")
    first = {v.name: _first_axis(v) for v in net.model.graph.inputs if v.name and net.inputs[v.name]}
    symbols = [axis for axis in first.values() if not isinstance(axis, int)]
    if symbols:
        return {
            name: (batch, *shape[1:]) if first.get(name, 0) == symbols[0] else shape
            for name, shape in net.inputs.items()
        }
    for name, axis in first.items():
        if axis != batch:
            advice = f"use `batch` {axis} or export it with a dynamic batch"
            raise BadInput(f"{where}: `batch` {batch}: input {name} has a fixed batch of {axis}; {advice}")
    return net.inputs


def _first_axis(value: ir.Value) -> int | str | None:
    """The size of an input's first axis, its symbol, or None; exporters also write an unknown size as 0 or -1."""
    if value.shape is None:
        return None
    axis = value.shape[0]
    return symbol_of(axis) if isinstance(axis, ir.SymbolicDim) else (axis if axis > 0 else None)
