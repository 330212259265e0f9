"""The processes that a launcher such as torchrun has started."""

import os


def is_main_process() -> bool:
    """Whether this is the process that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
