"""Latency: what onnxruntime makes of a network, measured."""

from slimnet.timing.run import bench

__all__ = ["bench"]
