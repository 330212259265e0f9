"""The errors that slimnet reports to a user: one line that says what is wrong, where, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class SlimnetError(Exception):
    """A failure the user can act on; the command line prints its message and exits with `exit_code`."""

    exit_code = 1


class BadInput(SlimnetError):
    """A file, option or model that cannot be used as given."""

    exit_code = 2


class VerifyFailed(SlimnetError):
    """The slim network does not compute what the masked one computes."""

    exit_code = 3


class LatencyRegression(SlimnetError):
    """A network became slower than its baseline, beyond noise and tolerance."""

    exit_code = 4


class TrainingFailed(SlimnetError):
    """Training cannot go on: the loss is no longer a number."""

    exit_code = 5


@contextmanager
def explained(advice: str) -> Iterator[None]:
    """Say what a failed verification means to whoever asked for it."""
    try:
        yield
    except VerifyFailed as error:
        raise VerifyFailed(f"{error}; {advice}") from error
