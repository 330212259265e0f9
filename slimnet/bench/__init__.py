"""Latency: what onnxruntime makes of a network, measured."""

from slimnet.bench.run import bench

__all__ = ["bench"]
