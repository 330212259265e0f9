"""Latency: what onnxruntime makes of a network, measured."""
