"""The way from a module to a graph, by `torch.export` and `torch.onnx`; every parameter keeps its own name."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, InlinePass

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.common.inputs import parse_inputs
from slimnet.graph.net import Net, TorchSource
from slimnet.io.torch_forward import Arguments, ForwardFailed, example_arguments, forward

ADVICE = "export it to ONNX your own way and pass the .onnx file"


def export_torch(source: TorchSource, name: str, file: str | None = None, dynamic_batch: bool = False) -> Net:
    """Export a module to a graph whose initializers are named like the module's parameters and buffers.

    Args:
        source: The module and its inputs; its parameters are copied.
        name: The name that the network is given.
        file: The file that the module came from.
        dynamic_batch: Whether the first size of every input is left open. That takes up to twice as long and writes
            more nodes, because shapes are then computed in the graph.

    Returns:
        The network. Raises BadInput when no inputs are given, the module cannot run on them, or torch cannot trace it.
    """
    if not source.inputs:
        raise BadInput(f"{file or name}: the shape of its input is not known; give it, such as `inputs` 1x3x224x224")
    where = file or name
    inputs = [parse_inputs(spec)[0] for spec in source.inputs]
    # torch.export takes a size of 1 for a constant.
    args, kwargs = example_arguments(source.module, inputs, batch=2 if dynamic_batch else None)
    program = _traced(source.module, (args, kwargs), where, torch.export.Dim.DYNAMIC if dynamic_batch else None)
    model = to_onnx(program, where, _open_batch((args, kwargs), "batch") if dynamic_batch else None)
    model.graph.name = name
    shapes = {str(v.name): i.shape for v, i in zip(model.graph.inputs, inputs, strict=True)}
    return Net(model, name, shapes, source=file, torch=source)


def to_onnx(program: torch.export.ExportedProgram, where: str, axis_names: Any = None) -> ir.Model:
    """Translate an exported program as it is, unoptimised; the weights are copied, notes on source lines dropped.

    `axis_names` names dynamic axes in the form of torch's `dynamic_shapes`.
    """
    try:
        with _quiet():
            exported = torch.onnx.export(program, optimize=False, verbose=False, dynamic_shapes=axis_names)
    except Exception as error:
        raise BadInput(f"{where}: torch.onnx cannot translate it: {_root(error)}; {ADVICE}") from error
    assert exported is not None, "with dynamo torch.onnx.export always returns a program"
    model = exported.model
    InlinePass()(model)
    ClearMetadataAndDocStringPass()(model)
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
        if (tensor := value.const_value) is not None:
            value.const_value = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=value.name)
    return model


def not_exported(net: Net) -> list[str]:
    """The parameters of the module that the graph does not know, because `forward` does not use them as they are."""
    assert net.torch is not None, "only networks from PyTorch have parameters outside the graph"
    known = net.model.graph.initializers
    used = {id(p) for name, p in net.torch.module.named_parameters(remove_duplicate=False) if name in known}
    return [name for name, p in net.torch.module.named_parameters() if id(p) not in used]


def _traced(module: torch.nn.Module, arguments: Arguments, where: str, batch: Any) -> torch.export.ExportedProgram:
    args, kwargs = arguments
    shapes = _open_batch(arguments, batch) if batch is not None else None
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        try:
            forward(module, args, kwargs)
        except ForwardFailed as failure:
            raise BadInput(f"{where}: does not run on the given `inputs`: {failure}") from failure
        raise BadInput(f"{where}: torch.export cannot trace it: {_root(error)}; {ADVICE}") from error


def _open_batch(arguments: Arguments, batch: Any) -> Any:
    """The first axis of every argument marked as `batch`, in the form of `dynamic_shapes`."""
    args, kwargs = arguments
    return {name: {0: batch} for name in kwargs} or tuple({0: batch} for _ in args)


def _root(error: BaseException) -> str:
    """The first cause of a chain of errors: torch wraps the reason in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {essence(error)}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch while it traces: a failure is reported in one line, and stdout belongs to `--json`."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
