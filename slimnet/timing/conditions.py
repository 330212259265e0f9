"""What a latency depends on beside the model: what is fed, and the machine."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Inputs, parse_inputs
from slimnet.graph.net import Net
from slimnet.io.onnx_file import concrete_inputs, load_onnx
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.session import title
from slimnet.timing.latency import Model, cores


@dataclass(frozen=True)
class Machine:
    """The runtime's version, the processor and the cores this process may use."""

    onnxruntime: str
    cpu: str
    cores: int


@dataclass(frozen=True)
class Conditions:
    """Concrete input shapes, exclusive upper bounds of integer inputs, the seed they are drawn with, threads, machine.

    `threads` is None where the choice was left to onnxruntime.
    """

    inputs: dict[str, tuple[int, ...]]
    bounds: dict[str, int]
    seed: int
    threads: int | None
    machine: Machine

    def feed(self, model: ir.Model) -> dict[str, np.ndarray]:
        """The inputs themselves, in the types that `model` takes."""
        return random_inputs(model, self.inputs, self.seed, self.bounds)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Conditions":
        """The inverse of `dataclasses.asdict`. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            inputs={str(name): tuple(int(n) for n in shape) for name, shape in document["inputs"].items()},
            bounds={str(name): int(bound) for name, bound in document["bounds"].items()},
            seed=int(document["seed"]),
            threads=None if document["threads"] is None else int(document["threads"]),
            machine=Machine(**document["machine"]),
        )


def this_machine() -> Machine:
    """The machine this runs on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(ort.__version__, names[0] if names else platform.processor() or platform.machine(), cores())


def as_net(model: Model, inputs: Inputs = None, batch: int | None = None) -> Net:
    """A model with concrete input shapes: what the model fixes, what `inputs` says, and `batch` for the first axis.

    Raises BadInput for a file that cannot be read, a shape that does not fit or is not known, and for a batch where the
    model fixes another one.
    """
    if isinstance(model, ir.Model):
        net = Net(model, title(model), concrete_inputs(model.graph, parse_inputs(inputs), title(model)))
    else:
        net = load_onnx(model, inputs)
    if batch is not None:
        net.inputs = _batched(net, batch, title(model))
    return net


def _batched(net: Net, batch: int, where: str) -> dict[str, tuple[int, ...]]:
    if batch < 1:
        raise BadInput(f"--batch {batch}: a batch holds at least one sample")
    first = {v.name: _first_axis(v) for v in net.model.graph.inputs if v.name and net.inputs[v.name]}
    symbols = [axis for axis in first.values() if not isinstance(axis, int)]
    if symbols:
        return {
            name: (batch, *shape[1:]) if first.get(name, 0) == symbols[0] else shape
            for name, shape in net.inputs.items()
        }
    for name, axis in first.items():
        if axis != batch:
            advice = f"use --batch {axis} or export it with a dynamic batch"
            raise BadInput(f"{where}: --batch {batch}: input {name} has a fixed batch of {axis}; {advice}")
    return net.inputs


def _first_axis(value: ir.Value) -> int | str | None:
    """The size of an input's first axis, its symbol, or None; exporters also write an unknown size as 0 or -1."""
    if value.shape is None:
        return None
    axis = value.shape[0]
    return axis.value if isinstance(axis, ir.SymbolicDim) else (axis if axis > 0 else None)
