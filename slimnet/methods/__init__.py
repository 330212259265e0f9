"""Pruning methods: they rank units by named tensors and groups, and know no ONNX.

Everything here is imported when it is first asked for, for the classes of methods that train load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from slimnet.methods.registry import catalog, names

if TYPE_CHECKING:
    from slimnet.methods.base import DataMethod, Method, Params, Scores, by_mean, unranked
    from slimnet.methods.criteria import filters, score
    from slimnet.methods.from_data import ActivationStatistics
    from slimnet.methods.lookup import create, is_training, register
    from slimnet.methods.training import TrainingMethod

#: Public names and the modules they live in; the classes of the methods are in the registry.
_HOME = {
    **dict.fromkeys(("DataMethod", "Method", "Params", "Scores", "by_mean", "unranked"), "base"),
    **dict.fromkeys(("create", "is_training", "register"), "lookup"),
    "ActivationStatistics": "from_data",
    "TrainingMethod": "training",
    **dict.fromkeys(("filters", "score"), "criteria"),
}

__all__ = [
    "ActivationStatistics",
    "DataMethod",
    "Method",
    "Params",
    "Scores",
    "TrainingMethod",
    "by_mean",
    "catalog",
    "create",
    "filters",
    "is_training",
    "names",
    "register",
    "score",
    "unranked",
]


def __getattr__(name: str) -> Any:
    homes = _HOME | {cls: module for module, _, cls in (entry.home.partition(".") for entry in catalog())}
    if name not in homes:
        raise AttributeError(f"module 'slimnet.methods' has no attribute {name!r}")
    return getattr(importlib.import_module(f"slimnet.methods.{homes[name]}"), name)
