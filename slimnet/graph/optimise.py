"""Clean a graph up before it is shipped or timed: fold shape arithmetic, drop what is unused."""

import logging

import onnx_ir as ir
from onnxscript import optimizer


def optimise(model: ir.Model) -> ir.Model:
    """The same network with constants folded, batch norms fused and dead nodes gone; the argument is left alone."""
    copy = model.clone()
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    optimizer.optimize_ir(copy)
    return copy
