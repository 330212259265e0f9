"""What a module returns: its tensors, whatever holds them, and what the outputs of its graph are called."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Number
from typing import Any

import torch
from torch import nn

from slimnet.common.torch_private import is_leaf, tensors_in

#: What may stand beside tensors and is no output of a graph.
_VALUES = (type(None), Number, str, bytes, enum.Enum, torch.dtype, torch.device)

#: What is: sizes that are computed, too.
_RESULTS = (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)
_ADVICE = "let it return tensors, or a dict, tuple or dataclass of tensors"


@contextmanager
def plain_outputs(module: nn.Module) -> Iterator[None]:
    """Let a module return its tensors in dicts and lists, which every exporter knows, and nothing beside them."""
    handle = module.register_forward_hook(lambda _module, _args, returned: plain(returned))
    try:
        yield
    finally:
        handle.remove()


def plain(returned: Any) -> Any:
    """The same in dicts and lists, with None for numbers and text; fields of a class are keys.

    Raises:
        TypeError: There is an object in it that may hold tensors, but torch does not know where.
    """
    items: Iterable[tuple[Any, Any]]
    if isinstance(returned, Mapping):
        items = returned.items()
    elif dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        items = [(field.name, getattr(returned, field.name, None)) for field in dataclasses.fields(returned)]
    elif isinstance(returned, tuple) and hasattr(returned, "__match_args__"):  # a named one
        items = zip(returned.__match_args__, returned, strict=True)
    elif isinstance(returned, list | tuple):
        return [plain(part) for part in returned]
    elif isinstance(returned, _VALUES):
        return None
    elif is_leaf(returned) and not isinstance(returned, _RESULTS):
        raise TypeError(f"forward returns a {type(returned).__name__}; {_ADVICE}")
    else:
        return returned
    return {key: plain(part) for key, part in items}


def keys_of(returned: Any, path: tuple[str, ...] = ()) -> list[str | None]:
    """The keys and positions that lead to each tensor of what is returned, as one name.

    A tensor to which positions alone lead has none: the graph knows a better one.
    """
    returned = plain(returned)
    if isinstance(returned, dict):
        return [name for key, part in returned.items() for name in keys_of(part, (*path, str(key)))]
    if isinstance(returned, list):
        parts = enumerate(returned)
        return [name for k, part in parts for name in keys_of(part, (*path, str(k)) if path else ())]
    leaves = tensors_in(returned)
    return ["_".join(path if len(leaves) == 1 else (*path, str(k))) or None for k in range(len(leaves))]
