from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.timing.conditions import Conditions
from slimnet.timing.gate import BASELINE, CANDIDATE, Verdict, gate, parse_tolerance
from slimnet.timing.latency import Comparison
from tests.networks.backends import Simulated, seconds_of

CONDITIONS = Conditions({"x": (1, 3, 16, 16)}, {}, 0, Simulated().describe())


def machine(seed: int = 0, noise: float = 0.1, luck: float = 0.04) -> Simulated:
    """A noisy machine, on which the memory of some sessions lies badly; `luck` is by how much at most."""
    rng = np.random.default_rng(seed)
    return Simulated(noise=lambda: rng.lognormal(0, noise), luck=lambda: rng.uniform(1, 1 + luck))


def test_a_really_slower_model_is_slower(net):
    verdict = gate(net(64), net(32), CONDITIONS, machine(), seconds=5)
    assert verdict.slower
    assert verdict.ratio.low > 1.05


def test_a_faster_model_is_not_slower(net):
    assert not gate(net(32), net(64), CONDITIONS, machine(), seconds=5).slower


@pytest.mark.parametrize("channels", [8, 64])
def test_the_same_model_passes_twenty_times_out_of_twenty(net, channels):
    model = net(channels)
    seconds = 200 * seconds_of(model)
    verdicts = [gate(model, model, CONDITIONS, machine(seed), seconds=seconds).slower for seed in range(20)]
    assert verdicts == [False] * 20


def in_turn(*factors: float) -> Callable[[], float]:
    """The luck of sessions, one after the other."""
    left = cycle(factors)
    return lambda: next(left)


@pytest.mark.parametrize(("second", "slower"), [(1.0, False), (1.2, True)])
def test_only_a_model_slower_in_both_of_two_attempts_is_slower(net, second, slower):
    # The attempts make baseline and candidate, then candidate and baseline.
    backend = Simulated(luck=in_turn(1.0, 1.2, second, 1.0))
    assert gate(net(8), net(8), CONDITIONS, backend).slower is slower
    assert [what for what, *_ in backend.log].count("session") == 4


def test_a_session_that_is_slow_because_it_is_made_second_is_no_regression(net):
    """The second attempt makes its sessions in the other order."""
    assert not gate(net(8), net(8), CONDITIONS, Simulated(luck=in_turn(1.0, 1.2))).slower


def test_a_model_that_is_fast_enough_at_first_is_not_measured_again(net):
    backend = Simulated()
    gate(net(8), net(8), CONDITIONS, backend)
    assert [what for what, *_ in backend.log].count("session") == 2


def verdict_on(ratio: float, noise: float) -> Verdict:
    """A verdict at 5 % tolerance on times that have this ratio, in 20 rounds."""
    rng = np.random.default_rng(0)
    samples = np.column_stack([np.ones(20), ratio * rng.lognormal(0, noise, 20)])
    loops = {BASELINE: 1, CANDIDATE: 1}
    return Verdict(Comparison((BASELINE, CANDIDATE), samples, loops, ()), CONDITIONS, 0.05)


def test_the_plain_values_of_a_verdict_are_those_it_was_decided_by():
    """As programs read them from the JSON: the decision follows from the interval and the tolerance."""
    verdict = verdict_on(1.2, 0.02)
    values = verdict.to_json()
    low, high = values["ratio_interval"]
    assert low < values["ratio"] < high
    assert values["slower"] is (low > 1 + values["tolerance"]) is True
    times = values["latency_ms"]
    assert times[CANDIDATE]["median"] / times[BASELINE]["median"] == pytest.approx(values["ratio"])


def test_a_ratio_whose_interval_reaches_into_the_tolerance_is_not_slower():
    doubtful, sure = verdict_on(1.08, 0.1), verdict_on(1.08, 0.001)
    assert doubtful.ratio.low < 1.05 < doubtful.ratio.value < doubtful.ratio.high
    assert not doubtful.slower
    assert sure.slower


def test_the_verdict_tells_its_numbers(net):
    verdict = gate(net(64), net(16), CONDITIONS, machine(), tolerance=0.1, seconds=1)
    for number in (verdict.ratio.value, verdict.ratio.low, 1.1):
        assert f"{number:.3f}" in str(verdict)
    assert verdict.to_json()["slower"] is True
    assert (
        verdict.to_json()["latency_ms"]["candidate"]["median"] > verdict.to_json()["latency_ms"]["baseline"]["median"]
    )


def test_the_verdict_tells_what_was_timed(net):
    now = Simulated("gpu", 3, version="2.0")
    stored = replace(CONDITIONS, runtime=Simulated("cpu", 1).describe())
    told = gate(net(8), net(8), stored, now, seconds=0).to_json()["conditions"]
    assert (told["runtime"], told["provider"], told["threads"]) == ("simulated", "gpu", 3)
    assert told["machine"]["simulated"] == "2.0"


@pytest.mark.parametrize(
    ("given", "fraction"), [("5%", 0.05), ("0.05", 0.05), (0.1, 0.1), ("0", 0.0), (" 12.5 %", 0.125)]
)
def test_tolerances_are_fractions_or_per_cent(given, fraction):
    assert parse_tolerance(given) == pytest.approx(fraction)


@pytest.mark.parametrize("given", ["", "five", "5", "-1%", "nan", "100%"])
def test_other_tolerances_are_bad_input(given):
    with pytest.raises(BadInput, match="`tolerance`"):
        parse_tolerance(given)
