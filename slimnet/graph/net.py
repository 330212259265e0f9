"""A network on its way through slimnet: an ONNX graph, the input shapes it is looked at with, and its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir


@dataclass
class TorchSource:
    """The PyTorch side of a network, whose parameters are initializers of the same name in the graph.

    Attributes:
        module: The `torch.nn.Module`, which the weights of the graph follow.
        arch: The spec that builds its class anew (`torchvision:resnet50`, `net.py:Net?width=64`), if there is one.
        inputs: The module's inputs as `--input` specs, in the order of `forward`: "1x3x224x224", "ids=1x16:int64".
        attributes: Module name -> attribute -> value, where the module differs from what `arch` builds because it
            was loaded from a slim checkpoint.
        notes: What else a checkpoint said about itself in plain values, such as {"data": "digits"}.
    """

    module: Any
    arch: str | None
    inputs: tuple[str, ...]
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Net:
    """A network to be made smaller.

    Attributes:
        model: The dense graph, never edited in place. Weights that are `ir.LazyTensor`s follow a PyTorch module: they
            are read from it whenever they are asked for.
        name: "resnet50", or the stem of the file.
        inputs: The concrete shape of every input, used to trace, verify and time; the graph itself may be dynamic.
        source: The file the network was read from, if it came from one.
        torch: The network's PyTorch side, if it came from there.
        notes: What was decided while loading that a user should know, one sentence each.
    """

    model: ir.Model
    name: str
    inputs: dict[str, tuple[int, ...]]
    source: str | None = None
    torch: TorchSource | None = None
    notes: tuple[str, ...] = ()

    def params(self) -> Mapping[str, np.ndarray]:
        """The initializers of the main graph by name, each read when it is asked for; not to be written to."""
        return _Params(self.model.graph)


class _Params(Mapping[str, "np.ndarray"]):
    def __init__(self, graph: ir.Graph) -> None:
        self._tensors = {name: v.const_value for name, v in graph.initializers.items() if v.const_value is not None}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
