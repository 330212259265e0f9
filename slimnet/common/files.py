"""What every loader and writer does with files, and how a foreign error is reported in one line."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.common.errors import BadInput

if TYPE_CHECKING:
    import numpy as np


def existing_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that can be read. Raises BadInput for anything else."""
    file = Path(path)
    if file.is_dir():
        raise BadInput(f"{file}: is a folder; name a file in it")
    if not file.exists():
        raise BadInput(f"{file}: no such file; check the path")
    if not os.access(file, os.R_OK):
        raise BadInput(f"{file}: may not be read; check its permissions")
    return file


def read_npz(path: str | os.PathLike[str], option: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises BadInput, naming the option, where it is none, or holds pickles."""
    import numpy as np

    file = existing_file(path)
    try:
        with zipfile.ZipFile(file):
            arrays = np.load(file, allow_pickle=False)
        with arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        advice = "write it with numpy.savez"
        raise BadInput(f"{option} {file}: is not an .npz file of plain arrays ({essence(error)}); {advice}") from error


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make sure, before any work, that files can be written into a folder, which need not exist yet.

    Nothing is left behind. Raises BadInput when the folder, or the one it would be made in, takes no file.
    """
    place = Path(folder).absolute()
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written to ({essence(error)}); choose another output folder") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path in a fresh folder beside `path` to write to; on success all files there move to where `path` lies.

    Readers therefore see the old file or the new one, never half of one. Missing parents are made.
    Raises BadInput where nothing can be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder, path.name)
            # The named file last: it may point to the others.
            for file in sorted(Path(folder).iterdir(), key=lambda f: f.name == path.name):
                os.replace(file, path.parent / file.name)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({essence(error)}); choose another output folder") from error


def first_cause(error: BaseException) -> BaseException:
    """The error that a chain of errors began with: libraries wrap the reason in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def essence(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters, or its type if it has none.

    Of an error of the file system it is the reason alone: which file it was about, often a temporary one, says whoever
    reports it.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    return message if len(message) <= 200 else f"{message[:200]} …"
