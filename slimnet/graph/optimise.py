"""Clean a graph up before it is shipped or timed: fold shape arithmetic, drop what is unused."""

import onnx_ir as ir
from onnxscript import optimizer

from slimnet.common.quiet import only_errors


def optimise(model: ir.Model) -> ir.Model:
    """The same network with constants folded, batch norms fused and dead nodes removed; the argument is left alone."""
    copy = model.clone()
    with only_errors("onnxscript", "onnx_ir"):
        optimizer.optimize_ir(copy)
    return copy
