"""The statistics that a criterion ranks by, measured: activations of the graph, or gradients of the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimnet.common.errors import BadInput
from slimnet.data.load import Data
from slimnet.graph.units import Trace
from slimnet.methods.base import DataMethod
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT


def measure(method: DataMethod, trace: Trace, data: Data | None, backend: Backend = DEFAULT) -> Mapping[str, Any]:
    """Measure what a method needs on the training split, or on the test split where there is no other.

    Args:
        method: The criterion; `needs` says what it has to see.
        trace: The trace of the network.
        data: The data, or None where the user gave none.
        backend: What runs the network for its activations.

    Returns:
        What `method.statistics` is to be.

    Raises:
        BadInput: There is no data or it does not fit, or the method needs a module and there is only a graph.
    """
    source = trace.net.torch
    if source is None and method.needs != "activations":
        raise BadInput("needs gradients, so a PyTorch checkpoint with `arch`, not a graph alone")
    if data is None:
        raise BadInput("needs data; give `data`")
    samples = data.train or data.test
    if source is None or method.needs == "activations":
        from slimnet.calibration.activations import activation_statistics

        return activation_statistics(trace, samples, **method.measurement_options(), backend=backend)
    from slimnet.calibration.classifier import check_classes
    from slimnet.calibration.gradients import fisher, gradients

    check_classes(source.module, samples, data.name)
    return (fisher if method.needs == "fisher" else gradients)(source.module, samples)
