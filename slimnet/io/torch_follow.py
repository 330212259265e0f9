"""Which attributes of a PyTorch module follow when its parameters lose channels: one rule per kind of module."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from slimnet.common.torch_private import CHANNEL_NORM, CONVOLUTION

#: The kept indices, by tensor name (relative to the module) and axis.
Kept = Mapping[str, Mapping[int, np.ndarray]]
Rule = Callable[[Any, Kept], dict[str, Any]]


class CannotSlim(Exception):
    """A module whose class cannot have the widths of a plan; the message names it and the reason."""


def follow(name: str, module: nn.Module, kept: Kept) -> dict[str, Any]:
    """The attributes, by name, that have to change with the tensors of a module and its children.

    Args:
        name: The module's name, for messages.
        module: The dense module.
        kept: The kept indices of its tensors, whose names are relative to it.

    Returns:
        The new values. Raises CannotSlim where no values would do.
    """
    rule = next((rule for kinds, rule in RULES.items() if isinstance(module, kinds)), _attention)
    try:
        values = rule(module, kept)
    except CannotSlim as reason:
        raise CannotSlim(f"{name} ({type(module).__name__}) {reason}") from None
    return {key: value for key, value in values.items() if getattr(module, key) != value}


def _sizes(module: nn.Module, kept: Kept, tensor: str) -> list[int]:
    """The shape of a tensor of the module with only the kept indices."""
    axes = kept.get(tensor, {})
    return [len(axes[axis]) if axis in axes else size for axis, size in enumerate(getattr(module, tensor).shape)]


def _blocks(module: nn.Module, kept: Kept, tensor: str, blocks: int) -> int:
    """The number of equal blocks along the first axis of a tensor of which something is kept."""
    indices = kept.get(tensor, {}).get(0)
    size = len(getattr(module, tensor))
    return blocks if indices is None else len(np.unique(indices // (size // blocks)))


def _conv(module: Any, kept: Kept) -> dict[str, Any]:
    filters, channels = _sizes(module, kept, "weight")[:2]
    groups = _blocks(module, kept, "weight", module.groups)
    if module.transposed:
        return {"in_channels": filters, "out_channels": channels * groups, "groups": groups}
    return {"in_channels": channels * groups, "out_channels": filters, "groups": groups}


def _linear(module: Any, kept: Kept) -> dict[str, Any]:
    out_features, in_features = _sizes(module, kept, "weight")
    return {"in_features": in_features, "out_features": out_features}


def _embedding(module: Any, kept: Kept) -> dict[str, Any]:
    rows, width = _sizes(module, kept, "weight")
    return {"num_embeddings": rows, "embedding_dim": width}


def _channel_norm(module: Any, kept: Kept) -> dict[str, Any]:
    tensor = next((t for t in ("weight", "running_mean") if getattr(module, t) is not None), None)
    return {"num_features": _sizes(module, kept, tensor)[0]} if tensor else {}


def _group_norm(module: Any, kept: Kept) -> dict[str, Any]:
    groups = _blocks(module, kept, "weight", module.num_groups)
    return {"num_channels": _sizes(module, kept, "weight")[0], "num_groups": groups}


def _axes_norm(module: Any, kept: Kept) -> dict[str, Any]:
    return {"normalized_shape": tuple(_sizes(module, kept, "weight"))}


def _prelu(module: Any, kept: Kept) -> dict[str, Any]:
    return {"num_parameters": _sizes(module, kept, "weight")[0]}


def _recurrent(module: Any, kept: Kept) -> dict[str, Any]:
    # The recurrent weight is [gates * hidden, hidden], or [gates * hidden, projection].
    hidden = {
        _sizes(module, kept, tensor)[0] * module.hidden_size // len(getattr(module, tensor))
        for tensor, _ in module.named_parameters()
        if tensor.startswith("weight_hh")
    }
    projections = {_sizes(module, kept, t)[0] for t, _ in module.named_parameters() if t.startswith("weight_hr")}
    if len(hidden) > 1 or len(projections) > 1:
        raise CannotSlim("has one width for all its layers and directions, and the plan leaves them different ones")
    values = {"input_size": _sizes(module, kept, "weight_ih_l0")[1], "hidden_size": hidden.pop()}
    return values | ({"proj_size": projections.pop()} if projections else {})


def _recurrent_cell(module: Any, kept: Kept) -> dict[str, Any]:
    return {
        "input_size": _sizes(module, kept, "weight_ih")[1],
        "hidden_size": _sizes(module, kept, "weight_hh")[1],
    }


def _multihead_attention(module: Any, kept: Kept) -> dict[str, Any]:
    raise CannotSlim("cannot carry fewer heads, or heads of another width than its embedding divided by their number")


def _attention(module: Any, kept: Kept) -> dict[str, Any]:
    """The attributes of attention in timm and transformers: plain numbers beside linear maps with rows (head, dim)."""
    for heads_name, dim_name in (("num_heads", "head_dim"), ("num_attention_heads", "attention_head_size")):
        heads = getattr(module, heads_name, None)
        for name, parts in (("qkv", 3), ("q", 1), ("q_proj", 1), ("query", 1)):
            rows = kept.get(f"{name}.weight", {}).get(0)
            if not isinstance(heads, int) or rows is None:
                continue
            width = len(getattr(module, name).weight) // parts
            dim = width // heads
            places = np.unique(rows % width)
            left = len(np.unique(places // dim)), len(np.unique(places % dim))
            values = {heads_name: left[0], dim_name: left[1], "attn_dim": len(places), "all_head_size": len(places)}
            if left[1] != dim:
                # The fused kernel scales by the width it finds, the plain path by the one it was trained with.
                values["fused_attn"] = False
            return {key: value for key, value in values.items() if hasattr(module, key)}
    return {}


RULES: dict[Any, Rule] = {
    CONVOLUTION: _conv,
    nn.Linear: _linear,
    (nn.Embedding, nn.EmbeddingBag): _embedding,
    CHANNEL_NORM: _channel_norm,
    nn.GroupNorm: _group_norm,
    (nn.LayerNorm, nn.RMSNorm): _axes_norm,
    nn.PReLU: _prelu,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
    nn.MultiheadAttention: _multihead_attention,
}
#: All attributes that a rule may change, and therefore all that a file may set.
ATTRIBUTES = frozenset(
    """in_channels out_channels groups in_features out_features num_embeddings embedding_dim num_features num_groups
    num_channels normalized_shape num_parameters input_size hidden_size proj_size num_heads head_dim
    num_attention_heads attention_head_size attn_dim all_head_size fused_attn""".split()
)
