"""Checkpoints of a phase: one file of tensors and plain values, written whole or not at all, read without code."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from slimnet.common.errors import BadInput
from slimnet.common.files import essence, replacing


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; an existing one is replaced as a whole.

    Raises:
        BadInput: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(dict(content), temporary)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        BadInput: the file is damaged, or is no checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise BadInput(
            f"{path}: is not a checkpoint, or is damaged ({essence(error)}); delete it to start anew"
        ) from error
    if not isinstance(content, dict) or not {"settings", "epoch"} <= content.keys():
        raise BadInput(f"{path}: is not a checkpoint of slimnet; delete it to start anew")
    return content


def forget(file: Path) -> None:
    """Delete a checkpoint with what a killed run was writing, and the folder they lie in if that is empty then."""
    file.unlink(missing_ok=True)
    for unfinished in file.parent.glob(f".{file.name}.*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    with suppress(OSError):  # somebody else's files, or no folder at all
        file.parent.rmdir()


def check_settings(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings than the run was started with; the first difference is named."""
    for key in (*now, *then):
        old, new = then.get(key), now.get(key)
        if old != new:
            raise BadInput(
                f"{path}: was made with {key}={_short(old)}, and now it is {_short(new)}; resume with the same "
                "settings, or without `resume` to start anew"
            )


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
