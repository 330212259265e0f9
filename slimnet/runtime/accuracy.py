"""What a classifier gets right, as a runtime computes it; and real inputs to compare networks on."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from slimnet.data.load import Data
from slimnet.data.samples import Samples
from slimnet.graph.net import Net
from slimnet.runtime.backend import Backend
from slimnet.runtime.feeds import Feeds, input_dtypes
from slimnet.runtime.onnxruntime import DEFAULT


def correct_of(model: ir.Model, net: Net, samples: Samples, backend: Backend = DEFAULT) -> int:
    """How many samples a classifier's first output gets right, in batches of the size the graph is fixed to."""
    ((name, shape),) = net.inputs.items()
    session = backend.session(model)
    kind = input_dtypes(model)[name].numpy()
    correct = 0
    for x, y in samples.batches(shape[0]):
        full = np.resize(x, shape).astype(kind)  # the last batch is filled up with repetitions
        logits = session.run({name: full})[0]
        correct += int((logits.reshape(shape[0], -1).argmax(axis=1)[: len(y)] == y).sum())
    return correct


def accuracy_of(model: ir.Model, net: Net, samples: Samples, backend: Backend = DEFAULT) -> float:
    """Top-1 accuracy of a classifier's first output on all samples."""
    return correct_of(model, net, samples, backend) / len(samples)


def real_inputs(net: Net, data: Data | None) -> list[Feeds] | None:
    """Three batches of real data to verify on, samples repeated where there are too few."""
    if data is None:
        return None
    ((name, shape),) = net.inputs.items()
    x, _ = data.test.__getitems__(np.arange(3 * shape[0]) % len(data.test))
    return [{name: part} for part in np.split(x.astype(input_dtypes(net)[name].numpy()), 3)]
