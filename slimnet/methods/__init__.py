"""Pruning methods: they rank units by named tensors and groups, and know no ONNX.

The classes of methods that train (`GroupHS`, `GReg1`, ...) load torch, and are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from slimnet.methods.base import Method, Params, Scores, by_mean, create, is_training, names, register, unranked
from slimnet.methods.criteria import score
from slimnet.methods.from_data import DataMethod, Maps

#: Classes for a training loop of one's own, and where they live.
_HOME = {
    "GReg1": "greg",
    "GReg2": "greg",
    "GroupHS": "group_hs",
    "GroupLasso": "group_lasso",
    "Hoyer": "hoyer",
    "HoyerSquare": "hoyer",
    "IncReg": "increg",
    "SPP": "spp",
    "TrainingMethod": "training",
    "TransformedL1": "transformed_l1",
}

__all__ = [
    "DataMethod",
    "Maps",
    "Method",
    "Params",
    "Scores",
    "by_mean",
    "create",
    "is_training",
    "names",
    "register",
    "score",
    "unranked",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slimnet.methods' has no attribute {name!r}")
    return getattr(importlib.import_module(f"slimnet.methods.{_HOME[name]}"), name)
