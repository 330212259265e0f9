"""What of a file from somebody else differs from what it should be although no input shows it.

A row of a table that no drawn index reads, the weights of a branch that is never taken or the body of a loop that is
never entered can be anything: the outputs say nothing about them. The weights and nodes themselves do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.graph.branches import inputs_behind
from slimnet.graph.evaluate import subgraphs
from slimnet.graph.registry import Trait, traits_of
from slimnet.verification.comparison import Comparison

#: Elements differ when they are apart by more than the tolerance, and by more than this part of the largest one.
_NEGLIGIBLE = 1e-6


def silent_changes(comparison: Comparison, candidate: ir.Model, made: Sequence[ir.Model]) -> dict[str, float]:
    """The weights of a candidate that are not as made, where putting one back changes nothing that is compared.

    A weight that is put back alone and does show is no fault: another one makes up for it, as where a tool has fused a
    batch norm into a layer. Weights of other names, shapes or types are left to the outputs.

    Args:
        comparison: The comparison that has found the candidate equal to the masked network.
        candidate: The network that somebody else may have changed.
        made: What it may have been made as, such as the slim network before and after it is optimised.

    Returns:
        For each such weight its largest difference, relative to the largest element.
    """
    found = {}
    for name, value in candidate.graph.initializers.items():
        tensor, others = value.const_value, _alike(name, value, made)
        if tensor is None or not others:
            continue
        array = _numbers(tensor)
        apart = [(_apart(_numbers(other), array, comparison.tolerance), other) for other in others]
        if all(share for share, _ in apart) and not any(_shows(comparison, candidate, name, t) for _, t in apart):
            found[name] = min(share for share, _ in apart)
    return found


def _alike(name: str, value: ir.Value, made: Sequence[ir.Model]) -> list[ir.TensorProtocol]:
    """The tensors of this name, shape and type that hold numbers."""
    tensors = [model.graph.initializers[name].const_value for model in made if name in model.graph.initializers]
    like = value.const_value
    return [
        tensor
        for tensor in tensors
        if tensor is not None and like is not None and (tensor.dtype, tensor.shape) == (like.dtype, like.shape)
        and tensor.dtype != ir.DataType.STRING
    ]  # fmt: skip


def _numbers(tensor: ir.TensorProtocol) -> npt.NDArray[np.float64]:
    return tensor.numpy().astype(np.float64)


def _apart(want: npt.NDArray[np.float64], got: npt.NDArray[np.float64], tolerance: float) -> float:
    """The largest difference relative to the largest element; 0 where the two are equal."""
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0))
    if np.allclose(got, want, rtol=tolerance, atol=_NEGLIGIBLE * largest, equal_nan=True):
        return 0.0
    apart = np.abs(got - want)
    return float(apart.max(initial=0) / largest) if largest and np.isfinite(apart).all() else np.inf


def _shows(comparison: Comparison, candidate: ir.Model, name: str, tensor: ir.TensorProtocol) -> bool:
    """Whether the comparison notices that this one weight is put back."""
    copy = candidate.clone()
    copy.graph.initializers[name].const_value = tensor
    found = comparison.outputs_of(copy, "the slim network")
    return any(comparison.notices(outputs, on) for on, outputs in enumerate(found))


def unlike_tables(candidate: ir.Model, made: Sequence[ir.Model]) -> dict[str, bool]:
    """The constants that inputs read a part of, and that are none of those that the plan makes, whatever their name.

    Returns:
        For each whether every row can be read by choosing inputs.
    """
    ours: dict[tuple[Any, Any], list[npt.NDArray[Any]]] = {}
    for model in made:
        for value in model.graph.initializers.values():
            if value.const_value is not None:
                key = (value.dtype, tuple(value.const_value.shape.numpy()))
                ours.setdefault(key, []).append(value.const_value.numpy())
    found: dict[str, bool] = {}
    for node in candidate.graph.all_nodes():
        data = _read_in_part(node)
        if data is None:
            continue
        tensor = data.const_value
        alike = ours.get((data.dtype, tuple(tensor.shape.numpy())), ()) if tensor is not None else ()
        if not any(np.array_equal(array, tensor.numpy()) for array in alike if tensor is not None):
            name = str(data.name)
            found[name] = found.get(name, True) and _is_chosen(node)
    return found


def _read_in_part(node: ir.Node) -> ir.Value | None:
    """The constant of which a node reads what its other inputs say."""
    if Trait.READS_PART not in traits_of(node) or len(node.inputs) < 2 or node.inputs[0] is None:
        return None
    data, others = node.inputs[0], node.inputs[1:]
    varies = any(inputs_behind(value, sizes=True) for value in others)
    return data if data.dtype != ir.DataType.STRING and varies and not inputs_behind(data, sizes=True) else None


def _is_chosen(node: ir.Node) -> bool:
    """Whether the positions that a node looks up are an input as it is."""
    value = node.inputs[1] if Trait.LOOKS_UP in traits_of(node) else None
    while value is not None and (producer := value.producer()) is not None:
        value = producer.inputs[0] if Trait.PASSES_INDICES in traits_of(producer) else None
    return value is not None and value.is_graph_input()


def unlike_bodies(candidate: ir.Model, made: Sequence[ir.Model]) -> list[str]:
    """The loops whose bodies are other nodes than those that the plan makes."""
    ours = [_bodies(model) for model in made]
    return [name for name, body in _bodies(candidate).items() if all(body != other.get(name) for other in ours)]


def _bodies(model: ir.Model) -> dict[str, list[Any]]:
    """What the loops of a network do, each by its operator and the name of its first output."""
    return {
        f"{node.op_type} {node.outputs[0].name}": [_nodes(graph) for graph in subgraphs(node)]
        for node in model.graph.all_nodes()
        if node.op_type != "If" and next(iter(subgraphs(node)), None) is not None
    }


def _nodes(graph: ir.Graph) -> list[Any]:
    """Operators, attributes and wiring; values of the graph are numbered, so that their names do not count."""
    number: dict[ir.Value | None, int] = {value: k for k, value in enumerate(graph.inputs)}
    found: list[Any] = []
    for node in graph:
        plain = {name: str(a.value) for name, a in node.attributes.items() if a.type != ir.AttributeType.GRAPH}
        read = [number.get(value, value and value.name) for value in node.inputs]
        found.append((node.domain, node.op_type, plain, read, [_nodes(inner) for inner in subgraphs(node)]))
        number.update({value: len(number) + k for k, value in enumerate(node.outputs)})
    return [*found, [number.get(value, value.name) for value in graph.outputs]]
