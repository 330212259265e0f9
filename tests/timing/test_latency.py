from itertools import cycle

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing.latency import Comparison, compare
from tests.networks.backends import Simulated, seconds_of


def noisy(spread: float) -> Simulated:
    """A machine on which runs take longer and shorter, by a factor that is lognormal."""
    rng = np.random.default_rng(0)
    return Simulated(noise=lambda: rng.lognormal(0, spread))


def test_the_ratio_tells_the_slower_model(net, image):
    thin, wide = net(16), net(64)
    measured = compare({"thin": thin, "wide": wide}, image, noisy(0.1), max_seconds=5)
    ratio, truth = measured.ratio("wide", to="thin"), seconds_of(wide) / seconds_of(thin)
    assert ratio.low < truth < ratio.high
    back = measured.ratio("thin", to="wide")
    assert back.low < 1 / truth < back.high


def test_timings_are_milliseconds_of_single_runs(net, image):
    times = cycle([0.01] * 8 + [0.02] * 2)
    backend = Simulated(seconds=lambda _model: 1.0, noise=lambda: next(times))
    timing = compare({"net": net(64)}, image, backend, min_runs=100, max_seconds=0).timing("net")
    assert timing.median == pytest.approx(10)
    assert timing.p90 == pytest.approx(20)
    assert timing.runs == 100


def test_a_place_in_the_round_favours_no_model(net, image):
    """Whatever runs second in a round finds the caches full: every second round is in reverse order."""
    place = cycle([1.0, 1.2])
    measured = compare({"a": net(64), "b": net(64)}, image, Simulated(noise=lambda: next(place)), max_seconds=0)
    assert measured.ratio("a", to="b").value == pytest.approx(1.0)


def test_drift_that_hits_both_models_does_not_widen_the_interval():
    rng = np.random.default_rng(0)
    busy = np.repeat(rng.choice([1.0, 3.0], 40), 10)[:, None]
    samples = np.array([[1.2, 1.0]]) * busy * rng.normal(1, 0.01, (400, 2))
    ratio = Comparison(("a", "b"), samples, {"a": 1, "b": 1}, ()).ratio("a", to="b")
    assert ratio.low < 1.2 < ratio.high
    assert ratio.high - ratio.low < 0.02


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        samples = np.array([[1.1, 1.0]]) * rng.lognormal(0, 0.1, (60, 2))
        ratio = Comparison(("a", "b"), samples, {"a": 1, "b": 1}, ()).ratio("a", to="b")
        covered += ratio.low <= 1.1 <= ratio.high
    assert 0.88 < covered / 200 <= 1


def test_time_is_up_when_it_is_up(net, image):
    backend = Simulated(seconds=lambda _model: 0.012)
    measured = compare({"a": net(16), "b": net(16)}, image, backend, min_runs=2, max_seconds=0.5, tight=-1.0)
    assert len(measured.samples) == 21


def test_no_more_is_measured_than_the_ratio_needs(net, image):
    quiet, busy = (compare({"a": net(16), "b": net(16)}, image, noisy(s), max_seconds=2) for s in (0.001, 0.1))
    assert len(quiet.samples) == 20
    assert len(busy.samples) > 100


def test_the_fewest_runs_are_made_however_little_time_there_is(net, image):
    assert compare({"a": net(16)}, image, Simulated(), min_runs=33, max_seconds=0.0).timing("a").runs == 33


def test_a_model_too_fast_to_time_is_looped_and_says_so(net, image):
    tiny, backend = {"x": image["x"][:, :, :4, :4]}, Simulated(seconds=lambda _model: 10e-6)
    measured = compare({"tiny": net(4, size=4)}, tiny, backend, max_seconds=0.2)
    assert measured.loops["tiny"] == 50
    assert measured.timing("tiny").median == pytest.approx(0.01)
    assert measured.timing("tiny").runs == len(measured.samples) * 50
    assert any("tiny" in note and "loops" in note for note in measured.notes)


def test_more_threads_than_cores_is_noted(net, image):
    many, few = (compare({"a": net(16)}, image, Simulated(threads=n, cores=4)).notes for n in (5, 4))
    assert any("5 threads share 4 cores" in note for note in many)
    assert few == ()


def test_a_busy_machine_is_noted(net, image):
    busy = compare({"a": net(16), "b": net(16)}, image, noisy(1.5), max_seconds=0.0)
    assert any("busy" in note for note in busy.notes)


@pytest.mark.parametrize(
    ("feed", "says"),
    [({"z": np.zeros(1)}, "input x"), ({"x": np.zeros((1, 3, 8, 8), np.float32)}, "invalid dimensions")],
)
def test_inputs_that_do_not_fit_are_bad_input(net, feed, says):
    with pytest.raises(BadInput, match=says) as caught:
        compare({"mine": net(8)}, feed, OnnxRuntime(threads=1))
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)
