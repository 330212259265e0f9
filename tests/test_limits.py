"""What users wait for, in real seconds: `python -m pytest -m perf`, on a machine that does nothing else."""

import pytest

from benchmarks.limits import LIMITS, fastest


@pytest.mark.perf
@pytest.mark.parametrize("name", LIMITS)
def test_nobody_waits_longer(name):
    prepare, limit = LIMITS[name]
    assert fastest(prepare) <= limit
