"""Copies of PyTorch modules, whatever their attributes hold: caches, views, tensors of a computation."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import nn

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.common.torch_private import tensors_in
from slimnet.io.torch_weights import has_values

Module = TypeVar("Module", bound=nn.Module)


def copied(module: Module, shared: Iterable[torch.Tensor] = ()) -> Module:
    """A copy of a module that shares nothing with it but some tensors, in the same mode and on the same device.

    What the module has cached of an earlier computation is copied without its history; what holds no values, such as
    the fake tensors that an export leaves behind, is taken over as it is.

    Raises:
        BadInput: The module holds something that cannot be copied.
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    for tensor in tensors_of(module):
        if id(tensor) in memo:
            continue
        if not has_values(tensor):
            memo[id(tensor)] = tensor
        elif not tensor.is_leaf:
            memo[id(tensor)] = tensor.detach().clone()
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # whatever an attribute's own class raises
        raise BadInput(f"{type(module).__name__}: cannot be copied: {essence(error)}") from error


def twin(module: Module) -> Module:
    """A copy of a module that has the very same tensors, for what runs it: attributes that `forward` sets stay its own.

    A module that cannot be copied is returned itself.
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors_of(module)}
    try:
        return copy.deepcopy(module, memo)
    except Exception:  # whatever an attribute's own class raises
        return module


def tensors_of(module: nn.Module) -> list[torch.Tensor]:
    """The parameters, buffers and other tensors of a module, those in lists and dictionaries too."""
    return [tensor for child in module.modules() for tensor in tensors_in(vars(child))]
