"""Networks as files, and what a command left in a folder."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from tests.networks.graphs import net

ROOT = Path(__file__).parents[2]
#: The checkpoint that comes with slimnet.
DIGITS = ROOT / "models" / "digits_resnet.pt"
#: Architectures for `--arch FILE.py:NAME`.
MODULES = Path(__file__).with_name("modules.py")


def saved(path: Path, text: str, **weights: Any) -> Path:
    """Write a network given as text."""
    path.parent.mkdir(exist_ok=True)
    ir.save(net(text, **weights).model, path)
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below a folder, hidden ones too, with its content."""
    found: dict[str, bytes | None] = {}
    for at, folders, files in os.walk(folder):
        found |= {str(Path(at, name).relative_to(folder)): None for name in folders}
        found |= {str(Path(at, name).relative_to(folder)): Path(at, name).read_bytes() for name in files}
    return found


def refused(slimnet: Callable[..., Any], *words: object) -> str:
    """The line a command is refused with; nothing may have been written."""
    before = tree(Path.cwd())
    outcome = slimnet(*words)
    assert outcome.code == 2, outcome
    assert tree(Path.cwd()) == before
    return str(outcome.line)
