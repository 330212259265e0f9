"""The graph side: tracing, groups, plans, surgery, on onnx_ir and numpy."""
