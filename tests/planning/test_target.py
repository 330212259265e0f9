"""The loop that plans, measures and corrects, on machines that are made up."""

import math

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.planning.target import TOLERANCE, TRIES, Target, parse_target, reach

FEWEST = np.array([1])
MOST = 64


class Machine:
    """One group of 64 blocks whose real time differs from the predicted one; `steps` are the widths there are."""

    def __init__(self, real, steps=range(1, MOST + 1), noise=0.0):
        self.real, self.steps, self.noise = real, np.array(steps), noise
        self.rng = np.random.default_rng(0)
        self.asked = []

    def plan(self, goal):
        fits = self.steps[self.steps <= MOST / goal]
        kept = fits[-1:] if len(fits) else self.steps[:1]
        return kept, MOST / kept[0]

    def measure(self, counts):
        self.asked.append(int(counts[0]))
        return MOST / self.real(counts[0]) * self.rng.lognormal(0, self.noise)


def run(machine, asked):
    return reach(asked, machine.plan, machine.measure, machine.steps[:1])


def close(found, asked):
    return abs(found.best.measured / asked - 1) <= TOLERANCE


def test_a_right_model_needs_one_try():
    machine = Machine(float)
    found = run(machine, 2.0)
    assert found.best.measured == 2.0
    assert machine.asked == [32, 32]  # a hit is measured twice
    assert not found.floor


@pytest.mark.parametrize("real", [lambda n: 0.8 * n + 0.2 * MOST, lambda n: n**1.3 / MOST**0.3, lambda n: n**0.8 * 2.3])
@pytest.mark.parametrize("asked", [1.5, 2.0, 3.0])
def test_a_wrong_model_is_corrected(real, asked):
    found = run(Machine(lambda n: real(n)), asked)
    assert close(found, asked)
    assert len(found.attempts) <= TRIES
    assert not found.floor


def test_noise_of_a_per_cent_does_no_harm():
    for seed in range(10):
        machine = Machine(lambda n: 0.9 * n + 0.1 * MOST, noise=0.01)
        machine.rng = np.random.default_rng(seed)
        assert close(run(machine, 2.0), 2.0)


@pytest.mark.parametrize(
    ("real", "asked", "least"),
    [
        (lambda n: 0.8 * n + 0.2 * MOST, 1.8, 0.88),
        (lambda n: n**2.5 / MOST**1.5, 3.0, 0.84),  # much faster than predicted: neighbours lie far apart
    ],
)
def test_noise_that_makes_a_hit_by_chance_is_found_out(real, asked, least):
    """At 4 % noise most of what is delivered really is within 5 % of what was asked."""
    hits = []
    for seed in range(300):
        machine = Machine(real, noise=0.04)
        machine.rng = np.random.default_rng(seed)
        found = MOST / real(run(machine, asked).best.counts[0])
        hits.append(abs(found / asked - 1) <= 0.05)
    assert np.mean(hits) > least


def test_the_floor_is_measured_before_anything_is_called_unreachable():
    machine = Machine(lambda n: n / 2 + MOST / 2)
    found = run(machine, 3.0)
    assert found.floor
    assert machine.asked[-1] == 1
    assert found.best.counts[0] == 1
    assert found.best.measured == max(a.measured for a in found.attempts) < 2


def test_a_model_that_is_too_gloomy_still_gets_there():
    machine = Machine(lambda n: n / 2)  # twice as fast as predicted
    found = reach(8.0, lambda goal: machine.plan(min(goal, 64.0)), machine.measure, FEWEST)
    assert close(found, 8.0)


@pytest.mark.parametrize("asked", [1.5, 2.0, 3.0])
def test_a_model_that_counts_time_which_is_not_there_still_gets_there(asked):
    """As in small networks, where the profiler takes as long as the layers: the floor is predicted at 1.8x."""
    machine, overhead = Machine(float), 80.0

    def plan(goal):
        kept, _ = machine.plan(1 / max((1 + overhead / MOST) / goal - overhead / MOST, 1e-9))
        return kept, (MOST + overhead) / (kept[0] + overhead)

    assert close(reach(asked, plan, machine.measure, FEWEST), asked)
    assert MOST not in machine.asked, "that the dense network is as fast as itself is known"


def test_a_little_too_slow_is_better_than_far_too_fast():
    machine = Machine(float, steps=(12, 33, 64))
    found = run(machine, 2.0)
    assert machine.asked == [12, 33]
    assert found.best.measured == pytest.approx(64 / 33)


def test_between_coarse_widths_the_slower_one_that_is_fast_enough_is_taken():
    machine = Machine(float, steps=(16, 32, 48, 64))
    found = run(machine, 1.7)
    assert found.best.counts[0] == 32
    assert not found.floor
    assert len(machine.asked) == len(set(machine.asked)), "nothing is measured twice"


def test_coarse_widths_that_all_seem_too_slow_lead_to_the_floor():
    machine = Machine(lambda n: 0.5 * n + 20, steps=(8, 64))
    found = run(machine, 2.5)
    assert machine.asked == [8]
    assert found.best.measured == pytest.approx(64 / 24)
    assert run(Machine(lambda n: 0.5 * n + 20, steps=(8, 64)), 4.0).floor


def test_the_number_of_tries_is_bounded():
    machine = Machine(float, noise=0.5)
    assert len(run(machine, 2.0).attempts) <= TRIES


@pytest.mark.parametrize(
    ("kind", "text", "asked"),
    [
        ("speedup", "2.0", 2.0), ("speedup", "1.5x", 1.5), ("latency", "8ms", 8.0), ("latency", "0.5 s", 500.0),
        ("latency", "300us", 0.3), ("params", "0.3", 0.3), ("params", "1.2M", 1.2e6), ("macs", "2G", 2e9),
        ("macs", ".5", 0.5), ("params", "300k", 3e5),
    ],
)  # fmt: skip
def test_targets_are_read(kind, text, asked):
    target = parse_target(kind, text)
    assert target.kind == kind
    assert math.isclose(target.asked, asked)
    assert not target.best


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("speedup", "fast", "`speedup` fast: is not understood; write it as 2.0"),
        ("speedup", "0.5", "`speedup` 0.5: is no speedup"),
        ("speedup", "1", "`speedup` 1: is no speedup"),
        ("speedup", "2ms", "`speedup` 2ms: is not understood"),
        ("speedup", "nan", "`speedup` nan: is not understood"),
        ("speedup", "-2", "`speedup` -2: is not understood"),
        ("latency", "8", "`latency` 8: is not understood; write it as 8ms"),
        ("latency", "0ms", "`latency` 0ms: is not understood"),
        ("params", "12q", "`params` 12q: is not understood; write it as 0.3 or 1.2M"),
        ("macs", "", "`macs` : is not understood; write it as 0.5 or 2G"),
    ],
)
def test_bad_targets_are_bad_input(kind, text, words):
    with pytest.raises(BadInput, match=words):
        parse_target(kind, text)


def test_messages_name_the_option():
    assert Target("latency", 8.0).option == "--latency 8ms"
    assert Target("speedup", 2.0).option == "--speedup 2"
