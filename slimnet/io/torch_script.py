"""The other way from a module to a graph: TorchScript records one run of it.

`torch.export` refuses a `forward` that decides by the values of its tensors, and some outputs and operators that the
older exporter can write. What is recorded holds for the decisions of that one run, so those are listed.
"""

import inspect
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

from slimnet.common.torch_private import graphs_logged, tensors_in
from slimnet.io.torch_forward import Arguments
from slimnet.io.torch_outputs import plain

#: The opset that torch's other exporter writes too.
_OPSET = 20
_TORCH = Path(torch.__file__).parent


def record(module: nn.Module, arguments: Arguments, batch: str | None = None) -> tuple[ir.Model, list[str]]:
    """Record one run of a module as a graph whose initializers are named like its parameters and buffers.

    Args:
        module: The module, in eval mode.
        arguments: What `forward` is called with.
        batch: The name of the first axis of every input, if that axis is left open.

    Returns:
        The graph, unoptimised, which shares no memory with the module; and where `forward` decided by values of its
        tensors, as "net.py:12". Raises whatever torch raises.
    """
    args, kwargs = arguments
    names = _input_names(module, arguments)
    file = io.BytesIO()
    with torch.no_grad(), graphs_logged(), _plain_attention(), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        torch.onnx.export(
            _Caller(module, tuple(kwargs)),
            (*args, *kwargs.values()),
            file,  # type: ignore[arg-type]  # it takes files too, its annotation does not know
            dynamo=False,
            input_names=names,
            dynamic_axes={name: {0: batch} for name in names} if batch is not None else None,
            opset_version=_OPSET,
            # Neither folds a batch norm into its convolution nor transposes weights: parameters stay what they are.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    model = ir.from_proto(onnx.load_from_string(file.getvalue()))
    _forget_the_caller(model.graph)
    tidy(model)
    for value in model.graph.initializers.values():
        if (tensor := value.const_value) is not None:  # of the file: read once, and not at every look
            value.const_value = ir.Tensor(tensor.numpy().copy(), tensor.dtype, name=value.name)
    return model, _decisions(heard)


class _Caller(nn.Module):
    """Calls a network with tensors given by position and returns them so, which is all that TorchScript knows.

    It is in training mode, which the network is not: otherwise the exporter would make parameters one whose values
    happen to be equal.
    """

    def __init__(self, network: nn.Module, keywords: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.keywords = keywords

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = len(tensors) - len(self.keywords)
        returned = self.network(*tensors[:first], **dict(zip(self.keywords, tensors[first:], strict=True)))
        return tuple(tensors_in(plain(returned)))


def _forget_the_caller(graph: ir.Graph) -> None:
    """Name everything as if the network had been recorded without its caller."""
    for value in list(graph.initializers.values()):
        value.name = str(value.name).removeprefix("network.")
    for node in graph.all_nodes():
        node.name = str(node.name).replace("/network/", "/", 1)
        for value in node.outputs:
            value.name = str(value.name).replace("/network/", "/", 1)


def tidy(model: ir.Model) -> None:
    """Drop the notes on source lines from a graph that torch has written."""
    ClearMetadataAndDocStringPass()(model)
    for value in model.graph.initializers.values():
        value.metadata_props.clear()


def _input_names(module: nn.Module, arguments: Arguments) -> list[str]:
    """The names that `forward` gives to what it is called with."""
    args, kwargs = arguments
    names = []
    for name, value in inspect.signature(module.forward).bind_partial(*args).arguments.items():
        names += [f"{name}_{k}" for k in range(len(value))] if isinstance(value, tuple) else [name]
    return [*names, *kwargs]


def _decisions(heard: list[warnings.WarningMessage]) -> list[str]:
    """Where the recorded code, torch's own left out, turned a tensor into a value of Python."""
    places: dict[str, None] = {}
    for warning in heard:
        file = Path(warning.filename)
        if issubclass(warning.category, torch.jit.TracerWarning) and _TORCH not in file.parents:
            places[f"{file.name}:{warning.lineno}"] = None
    return list(places)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """`nn.MultiheadAttention` is not to run as one operator, which the exporter does not know."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
