"""Pruning methods: they rank units by named tensors and groups, and know no ONNX."""

from slimnet.methods.base import Method, Params, Scores, by_mean, create, names, register, unranked
from slimnet.methods.criteria import score

__all__ = ["Method", "Params", "Scores", "by_mean", "create", "names", "register", "score", "unranked"]
