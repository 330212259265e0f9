"""Packages that only some work needs, asked for when that work begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slimnet.common.errors import BadInput
from slimnet.common.files import essence

#: Names that packages are imported by, where they differ from those they are installed by.
_IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn"}


class MissingPackage(BadInput):
    """A package that some work needs is not installed, or cannot be imported."""


@contextmanager
def required(package: str, work: str) -> Iterator[None]:
    """A context for imports of a package that some work needs.

    Args:
        package: The name the package is installed by.
        work: What needs the package, as the subject of a sentence.

    Raises:
        MissingPackage: An import fails; one line that names the package and the command that helps.
    """
    try:
        yield
    except Exception as error:  # a package that does not fit its own dependencies raises almost anything
        name = _IMPORTED_AS.get(package, package)
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise MissingPackage(f"{work} needs {package}, which is not installed; pip install {package}") from error
        raise MissingPackage(
            f"{work} needs {package}, which cannot be imported ({essence(error)}); "
            f"pip install --force-reinstall {package}"
        ) from error
