"""Networks of the transformers library: one config says how wide all their layers are, and files hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimnet.common.inputs import sizes
from slimnet.io.torch_follow import CannotSlim


def is_pretrained(module: nn.Module) -> bool:
    """Whether a module is one of the transformers library, or saved like one."""
    return hasattr(module, "config") and callable(getattr(module, "save_pretrained", None))


@contextmanager
def without_cache(module: Any) -> Iterator[None]:
    """Run a language model for its logits alone: what it keeps for its next token is no output of the network."""
    if not is_pretrained(module) or not hasattr(module.config, "use_cache"):
        yield
        return
    before, module.config.use_cache = module.config.use_cache, False
    try:
        yield
    finally:
        module.config.use_cache = before


def save_pretrained(module: Any, folder: Path) -> None:
    """Write a slim module as its own library does, so that `from_pretrained` builds it with its new widths.

    Args:
        module: The slim module; its config is given the new widths.
        folder: The folder to write: config.json, model.safetensors, and what else belongs to the class.

    Raises:
        CannotSlim: The config has one number for what differs between layers, or none for what has changed.
    """
    for name, found in _widths(module).items():
        if len(found) > 1:
            kept = " and ".join(map(str, sorted(found)))
            raise CannotSlim(f"{type(module).__name__} has one {name} for all layers, and the plan keeps {kept}")
        setattr(module.config, name, found.pop())
    with torch.device("meta"):
        built = {name: tensor.shape for name, tensor in type(module)(module.config).state_dict().items()}
    for name, tensor in module.state_dict().items():
        if built.get(name) != tensor.shape:
            raise CannotSlim(f"the config of {type(module).__name__} cannot say that {name} is {sizes(tensor.shape)}")
    module.save_pretrained(folder)


def _widths(module: nn.Module) -> dict[str, set[int]]:
    """What the layers of a network have of each width that a config names, by the names that the library uses."""
    found: dict[str, set[int]] = {}
    for child in module.modules():
        layers = {name: layer for name, layer in child.named_children() if isinstance(layer, nn.Linear)}
        dim = getattr(child, "head_dim", None)
        if isinstance(dim, int) and {"q_proj", "k_proj"} <= layers.keys():
            found.setdefault("head_dim", set()).add(dim)
            found.setdefault("num_attention_heads", set()).add(layers["q_proj"].out_features // dim)
            found.setdefault("num_key_value_heads", set()).add(layers["k_proj"].out_features // dim)
        if {"up_proj", "down_proj"} <= layers.keys():
            found.setdefault("intermediate_size", set()).add(layers["down_proj"].in_features)
    return found
