"""Inputs to feed a network with: their types, their ranges, random ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from slimnet.common.errors import BadInput
from slimnet.common.memory import check_size
from slimnet.graph.fed import HasModel
from slimnet.graph.fed import fed_inputs as fed_inputs
from slimnet.graph.fed import input_dtypes as input_dtypes
from slimnet.graph.registry import Trait, traits_of
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Feeds as Feeds


def random_inputs(
    source: ir.Model | HasModel,
    shapes: Mapping[str, Sequence[int]],
    seed: int = 0,
    bounds: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Random inputs for every input of `source`, the same for the same seed.

    Floats are standard normal in the input's own dtype, booleans fair coins, and integers drawn from [0, bound), where
    `bounds` gives the bound per input (the row count of the table that it indexes) and 2 is the default.
    Raises BadInput for an input without a shape or one that is not a tensor of numbers.
    """
    rng = np.random.default_rng(seed)
    feed = {}
    for name, dtype in input_dtypes(source).items():
        if name not in shapes:
            raise BadInput(f"input {name} has no shape: give one, such as `inputs` {name}=1x3x224x224")
        shape = tuple(shapes[name])
        check_size(shape, f"input {name}")
        if dtype == ir.DataType.BOOL:
            feed[name] = np.asarray(rng.random(shape) < 0.5)
        elif dtype.is_floating_point():
            feed[name] = rng.standard_normal(shape).astype(dtype.numpy())
        else:
            feed[name] = rng.integers(0, (bounds or {}).get(name, 2), shape).astype(dtype.numpy())
    return feed


def index_bounds(trace: Trace) -> dict[str, int]:
    """For each integer input, the row count of the smallest table it indexes."""
    bounds: dict[str, int] = {}
    for node in trace.net.model.graph:
        if Trait.LOOKS_UP not in traits_of(node) or len(node.inputs) < 2:
            continue
        data, index = node.inputs[0], node.inputs[1]
        shape = None if data is None else trace.shape_of(data)
        axis = node.attributes.get_int("axis", 0)
        source = index
        while source is not None and (producer := source.producer()) is not None:
            if Trait.PASSES_INDICES not in traits_of(producer):
                source = None
                break
            source = producer.inputs[0]
        if source is not None and shape is not None and source.name in trace.net.inputs:
            bounds[source.name] = min(bounds.get(source.name, shape[axis]), shape[axis])
    return bounds
