"""What criteria that score from data have to see: activations of the graph, or gradients of the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimnet.common.errors import BadInput
from slimnet.data.load import Data
from slimnet.graph.units import Trace
from slimnet.methods.from_data import DataMethod
from slimnet.runtime.backend import Backend
from slimnet.runtime.onnxruntime import DEFAULT


def evidence(method: DataMethod, trace: Trace, data: Data | None, backend: Backend = DEFAULT) -> Mapping[str, Any]:
    """Measure what a method needs on the training split, or the test split if it is the only one; `backend` runs it.

    Raises:
        BadInput: there is no data or it does not fit, or the method needs a module and there is only a graph.
    """
    source = trace.net.torch
    if source is None and method.needs != "maps":
        raise BadInput("needs gradients, so a PyTorch checkpoint with --arch, not a graph alone")
    if data is None:
        raise BadInput("needs data; give --data")
    samples = data.train or data.test
    if source is None or method.needs == "maps":
        from slimnet.calibration.activations import maps

        return maps(trace, samples, **method.evidence_options(), backend=backend)
    from slimnet.calibration.gradients import check_classes, fisher, gradients

    check_classes(source.module, samples, data.name)
    return (fisher if method.needs == "fisher" else gradients)(source.module, samples)
