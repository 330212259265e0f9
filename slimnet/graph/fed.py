"""What a network has to be fed with: its inputs and their element types."""

from typing import Protocol

import onnx_ir as ir

from slimnet.common.errors import BadInput


class HasModel(Protocol):
    """Anything that holds an ONNX model, such as a `Net`."""

    @property
    def model(self) -> ir.Model: ...


def input_dtypes(source: ir.Model | HasModel) -> dict[str, ir.DataType]:
    """The element type of every input that has to be fed. Raises BadInput where that is no number or boolean."""
    kinds = {name: repr(value.type).lower() for name, value in fed_inputs(source).items()}
    for name, kind in kinds.items():
        if kind not in _DTYPES:
            raise BadInput(f"input {name} is of type {kind}: only tensors of numbers and booleans can be fed")
    return {name: _DTYPES[kind] for name, kind in kinds.items()}


def fed_inputs(source: ir.Model | HasModel) -> dict[str, ir.Value]:
    """The graph inputs that have to be fed: those without an initializer."""
    graph = (source if isinstance(source, ir.Model) else source.model).graph
    return {v.name: v for v in graph.inputs if v.name is not None and v.name not in graph.initializers}


_DTYPES = {
    **{f"tensor({d.name.lower()})": d for d in ir.DataType if d.is_floating_point() or d.is_integer()},
    "tensor(bool)": ir.DataType.BOOL,
}
