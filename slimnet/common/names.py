"""Names of tensors without what wrappers of modules put before them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")


def without_wrappers(named: Mapping[str, T], expected: Collection[str]) -> dict[str, T]:
    """Tensors under the names that a module gives them itself.

    Args:
        named: What is named, with `_orig_mod.` (torch.compile) anywhere, or with another prefix before all names:
            `module.` of DataParallel and AveragedModel, `model.` of Lightning.
        expected: Names without wrappers, of which some should be found.

    Returns:
        The same under names without wrappers; where a prefix is taken off, names without it are left out.
    """
    found = {name if name in expected else name.replace("_orig_mod.", ""): value for name, value in named.items()}
    if not expected or not found.keys().isdisjoint(expected):
        return found
    prefix = _common_prefix(found, expected)
    return {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}


def _common_prefix(names: Collection[str], expected: Collection[str]) -> str:
    """The prefix under which most expected names are found."""
    wanted = min(expected)
    candidates = {name[: -len(wanted)] for name in names if name.endswith(f".{wanted}")}
    return max(sorted(candidates), key=lambda p: sum(p + name in names for name in expected), default="")
