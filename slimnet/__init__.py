"""slimnet makes trained networks physically smaller and proves that the small one equals the masked one.

import slimnet

net = slimnet.load("resnet50.onnx")
trace = slimnet.trace(net)
plan = slimnet.plan(trace, method="l1", ratio=0.5)
model = slimnet.slim(trace, plan)
slimnet.verify(trace, plan, model)
slimnet.export(model, "slim.onnx")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slimnet.api import export, mask, picker, plan, plan_of, slim, verify
    from slimnet.common.errors import BadInput, LatencyRegression, SlimnetError, VerifyFailed
    from slimnet.graph.net import Net
    from slimnet.graph.plan import Plan
    from slimnet.graph.trace import trace
    from slimnet.graph.units import Group, Trace
    from slimnet.io.load import load
    from slimnet.io.torch_slim import load_slim
    from slimnet.pipeline.config import PruneConfig, RunConfig, TrainConfig
    from slimnet.pipeline.prune import prune
    from slimnet.runtime.onnxruntime import OnnxRuntime
    from slimnet.timing.run import bench
    from slimnet.training.phase import Phase
    from slimnet.verification.verify import Verification

from slimnet.common.version import __version__ as __version__

#: Public names and where they live; each is imported when it is first asked for, so that `import slimnet` is quick.
_HOME = {
    "bench": "slimnet.timing.run",
    "export": "slimnet.api",
    "load": "slimnet.io.load",
    "load_slim": "slimnet.io.torch_slim",
    "mask": "slimnet.api",
    "picker": "slimnet.api",
    "plan": "slimnet.api",
    "plan_of": "slimnet.api",
    "prune": "slimnet.pipeline.prune",
    "slim": "slimnet.api",
    "trace": "slimnet.graph.trace",
    "verify": "slimnet.api",
    "BadInput": "slimnet.common.errors",
    "Group": "slimnet.graph.units",
    "LatencyRegression": "slimnet.common.errors",
    "Net": "slimnet.graph.net",
    "OnnxRuntime": "slimnet.runtime.onnxruntime",
    "Phase": "slimnet.training.phase",
    "Plan": "slimnet.graph.plan",
    "PruneConfig": "slimnet.pipeline.config",
    "RunConfig": "slimnet.pipeline.config",
    "SlimnetError": "slimnet.common.errors",
    "Trace": "slimnet.graph.units",
    "TrainConfig": "slimnet.pipeline.config",
    "Verification": "slimnet.verification.verify",
    "VerifyFailed": "slimnet.common.errors",
}

__all__ = [
    "BadInput",
    "Group",
    "LatencyRegression",
    "Net",
    "OnnxRuntime",
    "Phase",
    "Plan",
    "PruneConfig",
    "RunConfig",
    "SlimnetError",
    "Trace",
    "TrainConfig",
    "Verification",
    "VerifyFailed",
    "bench",
    "export",
    "load",
    "load_slim",
    "mask",
    "picker",
    "plan",
    "plan_of",
    "prune",
    "slim",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slimnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
