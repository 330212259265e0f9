"""The way from a module to a graph, by `torch.export` and `torch.onnx`; every parameter keeps its own name.

Where torch cannot go that way, others follow in turn: attention written out as matrix products, then a recording by
TorchScript. A network that took another way has a note that says so.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import InlinePass, RemoveUnusedNodesPass
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, first_cause
from slimnet.common.inputs import parse_inputs
from slimnet.common.torch_private import drop_constants, returned_by
from slimnet.graph.net import Net, TorchSource
from slimnet.graph.outputs import name_outputs
from slimnet.io.torch_attention import attention_written_out, has_attention
from slimnet.io.torch_cache import CachedGraph
from slimnet.io.torch_copy import tensors_of, twin
from slimnet.io.torch_forward import Arguments, ForwardFailed, evaluating, example_arguments, run
from slimnet.io.torch_outputs import keys_of, plain_outputs
from slimnet.io.torch_pretrained import without_cache
from slimnet.io.torch_script import record, tidy
from slimnet.io.torch_weights import follow_module, has_values

ADVICE = "export it to ONNX your own way and pass the .onnx file"
WRITTEN_OUT = "exported with attention written out as matrix products, for which torch.onnx has no operator here"

_log = logging.getLogger(__name__)


class CannotExport(Exception):
    """torch.export or torch.onnx cannot take a network; the message says which and why, in one line."""


def export_torch(
    source: TorchSource, name: str, file: str | None = None, dynamic_batch: bool = False, cache: bool = False
) -> Net:
    """Export a module to a graph whose initializers are named like the module's parameters and buffers.

    Args:
        source: The module and its inputs. The module is not changed, and the graph's weights follow it (see
            `torch_weights.follow_module`).
        name: The name that the network is given.
        file: The file that the module came from.
        dynamic_batch: Whether the first size of every input is left open. That takes up to twice as long and writes
            more nodes, because shapes are then computed in the graph.
        cache: Whether the graph may come from the user's cache folder, or go there (see `torch_cache`).

    Returns:
        The network. Raises BadInput when no inputs are given, the module cannot run on them, or torch cannot trace it.
    """
    if not source.inputs:
        raise BadInput(f"{file or name}: the shape of its input is not known; give it, such as `inputs` 1x3x224x224")
    where = file or name
    inputs = [parse_inputs(spec)[0] for spec in source.inputs]
    _check_values(source.module, where)
    # torch.export takes a size of 1 for a constant.
    arguments = example_arguments(source.module, inputs, batch=2 if dynamic_batch else None)
    module = twin(source.module)
    notes: tuple[str, ...] = ()
    with evaluating(module), without_cache(module):
        cached = CachedGraph(module, arguments) if cache and not dynamic_batch else None
        model = None if cached is None else cached.read()
        if model is None:
            model, notes = _anew(module, arguments, where, dynamic_batch)
            # What there is a note on may hold for these weights only.
            if cached is not None and not notes:
                cached.write(model)
    follow_module(model, source.module)
    model.graph.name = name
    shapes = {str(v.name): i.shape for v, i in zip(model.graph.inputs, inputs, strict=True)}
    return Net(model, name, shapes, file, source, notes)


def _anew(
    module: torch.nn.Module, arguments: Arguments, where: str, dynamic_batch: bool
) -> tuple[ir.Model, tuple[str, ...]]:
    """The graph of a module by the first way that can take it, and remarks on that way. Raises BadInput."""
    try:
        program = _exported(module, arguments, dynamic_batch)
        return to_onnx(program, _open_batch(arguments, "batch") if dynamic_batch else None)
    except CannotExport as reason:
        return _recorded(module, arguments, where, reason, "batch" if dynamic_batch else None)


def to_onnx(program: ExportedProgram, axis_names: Any = None) -> tuple[ir.Model, tuple[str, ...]]:
    """Translate an exported program as it is, unoptimised; the weights are the program's, source lines are dropped.

    Args:
        program: The program, not to be used afterwards.
        axis_names: Names of dynamic axes, in the form of torch's `dynamic_shapes`.

    Returns:
        The graph, and remarks for the user. Raises CannotExport.
    """
    keys = keys_of(returned_by(program))
    drop_constants(program)
    if not has_attention(program, of_other_ranks=True):
        try:
            return _translated(program, keys, axis_names), ()
        except CannotExport:
            if not has_attention(program):
                raise
    return _translated(program, keys, axis_names, attention_written_out), (WRITTEN_OUT,)


def not_exported(net: Net) -> list[str]:
    """The parameters of the module that the graph does not know, because `forward` does not use them as they are."""
    assert net.torch is not None, "only networks from PyTorch have parameters outside the graph"
    known = net.model.graph.initializers
    used = {id(p) for name, p in net.torch.module.named_parameters(remove_duplicate=False) if name in known}
    return [name for name, p in net.torch.module.named_parameters() if id(p) not in used]


def _check_values(module: torch.nn.Module, where: str) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise BadInput(f"{where}: {name} is made at the first run; run the module once before it is loaded")
        if not has_values(tensor):
            raise BadInput(f"{where}: {name} has no values (it is a meta or fake tensor); load weights into it first")


def _exported(module: torch.nn.Module, arguments: Arguments, dynamic_batch: bool) -> ExportedProgram:
    args, kwargs = arguments
    shapes = _open_batch(arguments, torch.export.Dim.DYNAMIC) if dynamic_batch else None
    try:
        with quiet(), torch.no_grad(), plain_outputs(module):
            return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise CannotExport(f"torch.export cannot trace it: {_root(error)}") from error


def _translated(
    program: ExportedProgram,
    keys: Sequence[str | None],
    axis_names: Any,
    prepare: Callable[[ExportedProgram], ExportedProgram] = lambda program: program,
) -> ir.Model:
    try:
        # What kernel computes attention, and so how its result lies in memory, depends on whether there are gradients.
        with quiet(), torch.no_grad():
            program = prepare(program)
            exported = torch.onnx.export(program, optimize=False, verbose=False, dynamic_shapes=axis_names)
    except Exception as error:
        raise CannotExport(f"torch.onnx cannot translate it: {_root(error)}") from error
    assert exported is not None, "with dynamo torch.onnx.export always returns a program"
    model = exported.model
    InlinePass()(model)
    tidy(model)
    _drop_zero_biases(model)
    name_outputs(model.graph, keys)
    return model


def _drop_zero_biases(model: ir.Model) -> None:
    """Drop the zeros that torch writes as the bias of a convolution without one.

    What onnxscript (0.7.0 at least) writes for a `Conv3d` has a size too many, and no runtime takes it.
    """
    biased = [node for node in model.graph if node.op_type == "Conv" and len(node.inputs) == 3]
    for node in biased:
        made = _producer(node, 2)
        if made is not None and made.op_type == "Expand":
            filled = _producer(made, 0)
            if filled is not None and filled.op_type == "CastLike":
                filled = _producer(filled, 0)
            value = filled.attributes.get("value") if filled is not None and filled.op_type == "Constant" else None
            if value is not None and not value.as_tensor().numpy().any():
                node.resize_inputs(2)
    if any(len(node.inputs) == 2 for node in biased):
        RemoveUnusedNodesPass()(model)


def _producer(node: ir.Node, place: int) -> ir.Node | None:
    value = node.inputs[place]
    return None if value is None else value.producer()


def _recorded(
    module: torch.nn.Module, arguments: Arguments, where: str, reason: CannotExport, batch: str | None
) -> tuple[ir.Model, tuple[str, ...]]:
    """The graph as TorchScript records it, with a note that says so. Raises BadInput where that fails too."""
    try:
        keys = keys_of(run(module, *arguments))
    except ForwardFailed as failure:
        if not all(map(has_values, tensors_of(module))):
            fake = "it holds a fake tensor, as an export may leave behind; make that anew"
            raise BadInput(f"{where}: does not run on the given `inputs`: {fake}") from failure
        raise BadInput(f"{where}: does not run on the given `inputs`: {failure}") from failure
    except TypeError as unknown:  # of what it returns
        raise BadInput(f"{where}: {unknown}") from unknown
    try:
        with quiet():
            model, decisions = record(module, arguments, batch)
        name_outputs(model.graph, keys)
    except Exception as error:
        neither = f"neither can TorchScript ({_root(error)})"
        raise BadInput(f"{where}: {reason}; {neither}; {ADVICE}") from error
    how = f"recorded by TorchScript, because {reason}"
    if decisions:
        listed = ", ".join(decisions[:3]) + (f" and {len(decisions) - 3} more" if len(decisions) > 3 else "")
        how += f"; what `forward()` decides there by values of tensors stays as it was for one random input: {listed}"
    return model, (how,)


def _open_batch(arguments: Arguments, batch: Any) -> Any:
    """The first axis of every argument marked as `batch`, in the form of `dynamic_shapes`."""
    args, kwargs = arguments
    return {name: {0: batch} for name in kwargs} or tuple({0: batch} for _ in args)


def _root(error: BaseException) -> str:
    cause = first_cause(error)
    return f"{type(cause).__name__}: {essence(cause)}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch while it reads or traces: a failure is reported in one line, and stdout belongs to `--json`.

    What it prints, pages of graph when it fails, goes to the log.
    """
    before, printed = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(printed), redirect_stderr(printed):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if text := printed.getvalue():
            _log.debug("torch printed:\n%s", text)
