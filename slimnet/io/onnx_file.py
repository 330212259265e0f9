"""Reading and writing of ONNX files."""

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx_ir.passes.common import (
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedOpsetsPass,
)

from slimnet.common.errors import BadInput, SlimnetError
from slimnet.common.files import essence, existing_file, first_cause, replacing
from slimnet.common.inputs import Inputs, parse_inputs
from slimnet.common.quiet import only_errors
from slimnet.graph.branches import lift_initializers
from slimnet.graph.evaluate import subgraphs
from slimnet.graph.net import Net
from slimnet.io.constants import Constants, specialised
from slimnet.io.functions import write_out

OLDEST_OPSET = 9
#: Initializers without their own file have to fit into one protobuf message, which ends at 2 GB.
EMBEDDED_BYTES = 1_900_000_000


def load_onnx(path: str | os.PathLike[str], inputs: Inputs = None, constants: Constants | None = None) -> Net:
    """Read an ONNX file.

    Model-local functions are inlined, so are branches whose condition is known, and initializers that are also listed
    as graph inputs (the custom of IR version 3) stop being inputs; otherwise the graph is as in the file, dynamic axes
    and all.

    Args:
        path: The file; external data is looked for beside it and mapped, not read.
        inputs: The shapes of the inputs whose size is not fixed in the file (see `parse_inputs`); what nobody says is
            chosen (see `net_of`).
        constants: The inputs that are bound to constants, and their values (see `bind`).

    Returns:
        The network. Raises BadInput for a file that is missing, truncated, not ONNX, older than opset 9, whose
        external data is missing, short or outside its folder, or whose inputs are not known.
    """
    file = existing_file(path)
    model = _understood(_read(file), file)
    # Whatever writes the graph again needs a name, which some exporters leave out.
    model.graph.name = model.graph.name or file.stem
    return specialised(model, file.stem, parse_inputs(inputs), str(file), constants)


def input_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of the inputs that an ONNX file lists. Raises BadInput as `load_onnx` does."""
    return [value.name for value in _read(existing_file(path)).graph.input]


def save_onnx(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write a model and check it with `onnx.checker`; the file appears whole or not at all.

    Above 1.9 GB the weights go to a second file, PATH.data. Raises SlimnetError if the model is not valid.
    """
    file = Path(path)
    weights = sum(v.const_value.nbytes for g in model.graphs() for v in g.initializers.values() if v.const_value)
    with replacing(file) as temporary:
        if weights > EMBEDDED_BYTES:
            ir.save(model, temporary, external_data=f"{file.name}.data")
        else:
            with _weights_in_memory(model):
                ir.save(model, temporary)
        try:
            onnx.checker.check_model(str(temporary))
        except onnx.checker.ValidationError as error:
            if not _runs_anyway(error):
                raise SlimnetError(f"{file}: the network is not valid ONNX: {essence(error)}") from error


def _read(file: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(file, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise BadInput(f"{file}: is not an ONNX file, or is truncated; export or copy it again") from error
    if not proto.graph.node:
        raise BadInput(f"{file}: holds no network (an empty graph); export or copy it again")
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is not None and opset < OLDEST_OPSET:
        advice = f"convert it with onnx.version_converter.convert_version(model, {OLDEST_OPSET})"
        raise BadInput(f"{file}: is opset {opset}, slimnet reads {OLDEST_OPSET} and newer; {advice}")
    return proto


def _understood(proto: onnx.ModelProto, file: Path) -> ir.Model:
    try:
        write_out(proto, _checked(proto), str(file))
        with only_errors("onnx_ir"):
            model = ir.from_proto(proto)
            # What is left are functions of other operator set versions, which this says.
            InlinePass()(model)
            # Runtimes refuse versions of operator sets that they do not know, used or not.
            RemoveUnusedOpsetsPass()(model)
        _check_reads(model.graph)
        ir.external_data.set_base_dir(model.graph, file.absolute().parent)
        _read_weights(model, file)
        RemoveInitializersFromInputsPass()(model)
        # Whatever changes weights looks for them among the initializers.
        LiftConstantsToInitializersPass(size_limit=2)(model)
        lift_initializers(model)
        # Before IR version 4 every initializer had to be an input.
        model.ir_version = max(model.ir_version, 4)
    except BadInput:
        raise
    except Exception as error:  # a damaged file can make each of them raise almost anything
        raise BadInput(f"{file}: is not valid ONNX: {essence(first_cause(error))}; export it again") from error
    return model


def _checked(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Everything but the weights, which become inputs: onnx.checker would copy them to read only their sizes.

    Raises what the checker raises.
    """
    light = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    light.opset_import.extend(proto.opset_import)
    light.functions.extend(proto.functions)
    light.graph.name = proto.graph.name or "graph"
    light.graph.node.extend(proto.graph.node)
    light.graph.output.extend(proto.graph.output)
    light.graph.input.extend(proto.graph.input)
    known = {i.name for i in proto.graph.input}
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in proto.graph.initializer
        if t.name not in known
    )
    try:
        onnx.checker.check_model(light)
    except onnx.checker.ValidationError as error:
        if not _runs_anyway(error):
            raise
        _check_nodes(light)
    return light


def _check_nodes(model: onnx.ModelProto) -> None:
    """Check node by node where the checker, which stops at its first complaint, has stopped at a harmless one."""
    context = type(onnx.checker.DEFAULT_CONTEXT)()
    context.ir_version = model.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        known = onnx.defs.has(node.op_type, context.opset_imports.get(node.domain, 1), node.domain)
        if known and not any(a.HasField("g") or a.graphs for a in node.attribute):
            onnx.checker.check_node(node, context)


def _check_reads(graph: ir.Graph, outside: tuple[Set[ir.Value], ...] = ()) -> None:
    """Make sure that every node reads what has been made before it, and makes as much as it says."""
    made = {*graph.inputs, *graph.initializers.values()}
    for node in graph:
        for value in node.inputs:
            if value is not None and value not in made and not any(value in scope for scope in outside):
                raise ValueError(
                    f"node {node.name or node.op_type} reads {value.name}, which nothing has made before it"
                )
        # onnx infers as many shapes as the attribute says, and takes the memory for them.
        if node.op_type == "Split" and node.attributes.get_int("num_outputs", len(node.outputs)) != len(node.outputs):
            raise ValueError(f"node {node.name or node.op_type} has {len(node.outputs)} outputs, but says otherwise")
        for inner in subgraphs(node):
            _check_reads(inner, (*outside, made))
        made.update(node.outputs)


def _runs_anyway(error: Exception) -> bool:
    """Whether the checker only complains of what runtimes accept: invented ops, and values of unknown rank."""
    return "No Op registered for" in str(error) or "Field 'shape' of 'type' is required" in str(error)


def _read_weights(model: ir.Model, file: Path) -> None:
    """Turn the file's tensors into arrays once: a protobuf tensor is copied at every look, an external one may fail."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _as_array(value.const_value, file)
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    node.attributes[name] = ir.AttrTensor(name, _as_array(attribute.as_tensor(), file))


def _as_array(tensor: ir.TensorProtocol, file: Path) -> ir.TensorProtocol:
    if tensor.dtype == ir.DataType.STRING:
        return tensor
    try:
        array = tensor.numpy()
    except FileNotFoundError as error:
        raise BadInput(f"{file}: its external data {error.filename} is missing; put it beside the model") from error
    except Exception as error:  # onnx_ir asserts what a damaged file breaks
        raise BadInput(f"{file}: the data of {tensor.name} cannot be read: {essence(error)}; copy it again") from error
    return tensor if isinstance(tensor, ir.ExternalTensor) else ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


@contextmanager
def _weights_in_memory(model: ir.Model) -> Iterator[None]:
    """A context in which a model is saved: weights mapped from a file count as the model's own."""
    mapped = {
        value: value.const_value
        for graph in model.graphs()
        for value in graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    for value, tensor in mapped.items():
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    try:
        yield
    finally:
        for value, tensor in mapped.items():
            value.const_value = tensor
