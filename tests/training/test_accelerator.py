"""Devices and processes to train on, and what training leaves behind in the process: nothing."""

import random

import numpy as np
import pytest
import torch

from slimnet.training.accelerator import accelerator_for, own_randomness, seed
from slimnet.training.phase import Phase


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def seed_and_fail() -> None:
    seed(1)
    draws()
    raise RuntimeError("fails")


def test_every_phase_has_its_own_precision():
    """accelerate keeps the first one for the life of the process; a private function makes it forget."""
    found = [accelerator_for(Phase(precision=precision), "cpu").mixed_precision for precision in ("bf16", "no", "bf16")]
    assert found == ["bf16", "no", "bf16"]


def test_a_phase_runs_where_it_is_told_to():
    accelerator = accelerator_for(Phase(accumulate=3), "cpu")
    assert accelerator.device == torch.device("cpu")
    assert accelerator.gradient_accumulation_steps == 3


def test_a_seed_gives_the_same_numbers_of_all_three_generators():
    accelerator_for(Phase(), "cpu")
    with own_randomness(torch.device("cpu")):
        seed(5)
        first = draws()
        seed(5)
        assert draws() == first
        seed(6)
        assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_random_generators_are_left_as_they_were_also_after_a_failure():
    accelerator_for(Phase(), "cpu")
    with own_randomness(torch.device("cpu")):
        expected = draws()
    with pytest.raises(RuntimeError, match="fails"), own_randomness(torch.device("cpu")):
        seed_and_fail()
    assert draws() == expected
