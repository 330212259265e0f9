"""Branches that no input takes: the networks are compared with their choices forced as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from slimnet.graph.branches import undecided

#: For every If, by the name of its first output, whether it takes its first branch.
Choice = Mapping[str, bool]

#: Of a network with more Ifs, the branches of so many are tried.
MAX_IFS = 16
_BRANCHES = {True: "then_branch", False: "else_branch"}


def choices(model: ir.Model) -> list[Choice]:
    """Every branch of a network that what it computes decides over, with the choices that lead to it.

    Branches that numbers among the inputs decide over are left out: inputs are drawn for those.
    """
    given = undecided(model)
    return list(_choices(model.graph, {}, given))[: 2 * MAX_IFS]


def _choices(graph: ir.Graph, outer: Choice, given: Mapping[str, object]) -> Iterator[Choice]:
    for node in graph:
        if node.op_type != "If" or node.domain or (not outer and {node.name, key_of(node)} & given.keys()):
            continue
        for taken, branch in _BRANCHES.items():
            choice = {**outer, key_of(node): taken}
            yield choice
            yield from _choices(node.attributes[branch].as_graph(), choice, given)


def key_of(node: ir.Node) -> str:
    """What an If is called here: the name of its first output, which masked and slim networks share."""
    return str(node.outputs[0].name)


def named(choice: Choice) -> str:
    """How a message calls a branch, such as "If y: then"."""
    return ", ".join(f"If {name}: {'then' if taken else 'else'}" for name, taken in choice.items())


def in_every_branch(*models: ir.Model) -> Iterator[tuple[Choice, list[ir.Model]]]:
    """Copies of networks with each choice of the first one forced; a choice that one of them lacks is left out."""
    for choice in choices(models[0]):
        made = [copy for model in models if (copy := forced(model, choice)) is not None]
        if len(made) == len(models):
            yield choice, made


def forced(model: ir.Model, choice: Choice) -> ir.Model | None:
    """A copy of a network that always takes these branches; None where it has no such Ifs."""
    copy = model.clone()
    nodes = {key_of(node): node for node in copy.graph.all_nodes() if node.op_type == "If" and not node.domain}
    if not choice.keys() <= nodes.keys():
        return None
    for name, taken in choice.items():
        value = ir.Value(name=f"{name}|forced", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]),
                         const_value=ir.Tensor(np.array(taken), name=f"{name}|forced"))  # fmt: skip
        copy.graph.register_initializer(value)
        nodes[name].replace_input_with(0, value)
    return copy
