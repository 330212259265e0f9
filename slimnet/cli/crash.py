"""What becomes of an error that nobody expected: one line for the user, and a file with the traceback."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback

from slimnet.cli.options import command_line
from slimnet.common.files import essence
from slimnet.common.version import __version__

#: What `sysexits.h` calls EX_SOFTWARE: an error in the program itself.
EXIT_CODE = 70


def told(error: Exception) -> str:
    """Write the traceback into a new file of the folder for temporary files; the line that says where it is."""
    what = f"unexpected {type(error).__name__}: {essence(error)}"
    about = f"{command_line()}\nslimnet {__version__}, Python {sys.version}, {platform.platform()}\n\n"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="slimnet-", suffix=".log", delete=False, encoding="utf-8") as log:
            log.write(about + "".join(traceback.format_exception(error)))
    except OSError as reason:
        return f"{what}. Please report it; no file could be written that tells more ({essence(reason)})"
    return f"{what}. Please report it with {log.name}, which tells where it happened"
