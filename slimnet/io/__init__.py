"""Load and save: ONNX files, PyTorch modules and checkpoints."""
