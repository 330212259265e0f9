"""The devices and processes to train on: all that slimnet asks of accelerate, imported when training begins."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from slimnet.common.required import required
from slimnet.training.phase import Phase

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_accelerate() -> None:
    """Make sure, before any work, that networks can be trained.

    Raises:
        MissingPackage: accelerate is not installed, or does not work.
    """
    with required("accelerate", "training"):
        import accelerate  # noqa: F401


def accelerator_for(phase: Phase, device: str = "auto") -> Accelerator:
    """The devices and processes of a phase: `device` "auto" takes what there is, "cpu" only the CPU.

    Raises:
        MissingPackage: accelerate is not installed, or does not work.
    """
    check_accelerate()
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Private: it keeps the precision of the first phase in a process, and later ones may have another.
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=device == "cpu", mixed_precision=phase.precision, gradient_accumulation_steps=phase.accumulate
    )


def seed(value: int) -> None:
    """Seed the generators of Python, numpy and torch, in every process differently."""
    from accelerate.utils import set_seed

    set_seed(value, device_specific=True)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Whatever is seeded and drawn inside leaves the generators of Python, numpy and torch as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
