"""What installed distributions add to slimnet: rules, sources of data and runtimes, each a group of entry points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slimnet.common.errors import BadInput
from slimnet.common.files import essence

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints


def installed(group: str) -> EntryPoints:
    """The entry points that distributions declare in a group; none of them is loaded."""
    from importlib.metadata import entry_points

    return entry_points(group=group)


@contextmanager
def foreign(point: EntryPoint, what: str) -> Iterator[None]:
    """Tell in one line that something another distribution brings is broken; the block loads it, and may call it.

    Args:
        point: One of `installed`.
        what: What asks for it, as messages begin: an argument with its value, or what the distribution adds.

    Raises:
        BadInput: The block fails. Whatever a stranger's module raises, the user can only repair or remove it.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        source = f" of {point.dist.name}" if point.dist is not None else ""
        kind, why = type(error).__name__, essence(error)
        shown = why if why == kind else f"{kind}: {why}"
        raise BadInput(f"{what}: {point.value}{source} cannot be loaded ({shown}); repair or uninstall it") from error
