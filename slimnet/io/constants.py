"""Inputs that are bound to constants, and what follows from it: what `--set` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Input, sizes
from slimnet.graph.branches import inline_branches, undecided
from slimnet.graph.net import Net
from slimnet.graph.outputs import name_outputs
from slimnet.io.inputs import net_of

#: A number, truth value, list or array for each of some inputs; text as "16000", "true" or "1,2,3".
Constants: TypeAlias = Mapping[str, Any]


def bind(model: ir.Model, constants: Constants, where: str) -> None:
    """Make constants of some inputs of a model, in place.

    A single number fills an input of any shape, whose open sizes count as 1.

    Args:
        model: The graph.
        constants: The values, by the name of the input.
        where: What messages begin with, such as the path of the file.

    Raises:
        BadInput: There is no such input, or the value does not fit it.
    """
    inputs = {value.name: value for value in model.graph.inputs if value.name}
    for name, given in constants.items():
        if name not in inputs:
            raise BadInput(f"{where}: `constants` {name}={given} names no input; its inputs are {', '.join(inputs)}")
        value = inputs[name]
        array = _array(value, given, f"{where}: `constants` {name}={given}")
        model.graph.inputs.remove(value)
        value.const_value = ir.Tensor(array, name=name)
        value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype
        model.graph.register_initializer(value)


def specialised(
    model: ir.Model,
    name: str,
    given: Sequence[Input],
    source: str,
    constants: Constants | None = None,
    notes: Sequence[str] = (),
) -> Net:
    """A network read from a file, with some inputs bound to constants and without the branches that it never takes.

    The arguments are those of `net_of` and `bind`; the model is changed in place.
    """
    bind(model, constants or {}, source)
    net = net_of(model, name, given, source, source)
    inline_branches(net)
    # An output that is an input, or another output, would lose its name where the graph is written again.
    name_outputs(model.graph)
    bound = (f"{key} is no input any more, but always {value}" for key, value in (constants or {}).items())
    net.notes = (*notes, *bound, *net.notes, *_undecided(model))
    return net


def _undecided(model: ir.Model) -> Iterator[str]:
    """What inputs decide over."""
    for node, names in undecided(model).items():
        advice = " and ".join(f"`constants` {name}=VALUE" for name in names)
        yield f"{node} chooses a branch by {' and '.join(names)}, and all branches stay; {advice} leaves one"


def _array(value: ir.Value, given: Any, where: str) -> np.ndarray:
    """What was given, in the type and the shape of an input."""
    dtype = ir.DataType.FLOAT if value.dtype is None else value.dtype
    if dtype == ir.DataType.STRING:
        raise BadInput(f"{where}: {value.name} holds strings, and only numbers and truth values can be set")
    numbers = _numbers(given)
    array = np.asarray(0 if numbers is None else numbers).astype(dtype.numpy())
    if numbers is None or not (dtype.is_floating_point() or np.array_equal(array, numbers)):
        raise BadInput(f"{where}: is no {dtype.numpy()}; give a number, true or false, or several as in 1,2,3")
    shape = None if value.shape is None else [d if isinstance(d, int) and d > 0 else None for d in value.shape]
    if shape is not None and array.size == 1:
        return np.broadcast_to(array.reshape(()), [d or 1 for d in shape]).copy()
    try:
        return array if shape is None else array.reshape([-1 if d is None else d for d in shape])
    except ValueError:
        wanted = sizes("?" if d is None else d for d in shape or ())
        raise BadInput(f"{where}: {array.size} numbers do not fit {value.name}, which is {wanted}") from None


def _numbers(given: Any) -> np.ndarray | None:
    """Numbers or truth values, from text too; None where it is something else."""
    if isinstance(given, str):
        words = [_number(word) for word in given.split(",")]
        given = words[0] if len(words) == 1 else words
    try:
        found = np.asarray(given)
    except ValueError:
        return None
    return found if found.dtype.kind in "biuf" else None


def _number(text: str) -> Any:
    """The number or truth value that a text stands for; the text itself where it is none."""
    if text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
