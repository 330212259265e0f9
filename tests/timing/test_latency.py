import time

import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.machine import cores
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing.latency import Comparison, Runner, compare
from tests.networks.backends import Simulated

ONE = OnnxRuntime(threads=1)


def test_the_ratio_tells_the_slower_model(net, image):
    measured = compare({"thin": net(16), "wide": net(64)}, image, backend=ONE, max_seconds=0.5)
    assert measured.ratio("wide", to="thin").low > 1.5
    assert measured.ratio("thin", to="wide").high < 1 / 1.5


def test_timings_are_milliseconds_of_single_runs(net, image):
    wide = net(64)
    start = time.perf_counter()
    measured = compare({"wide": wide}, image, ONE, max_seconds=0.5)
    elapsed = time.perf_counter() - start
    timing = measured.timing("wide")
    assert timing.runs >= 20
    assert measured.samples.min() * 1e3 <= timing.median <= timing.p90
    assert timing.median * timing.runs / 2 < elapsed * 1e3
    assert fastest(wide, image) / 3 < measured.samples.min() < fastest(wide, image) * 3


def fastest(model, feed):
    """Seconds of the fastest of 50 runs: what load on the machine disturbs least."""
    times, session = [], ONE.session(model)
    for _ in range(50):
        start = time.perf_counter()
        session.run(feed)
        times.append(time.perf_counter() - start)
    return min(times)


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


def test_the_fewest_runs_are_made_however_little_time_there_is(net, image):
    assert compare({"a": net(16)}, image, backend=ONE, min_runs=33, max_seconds=0.0).timing("a").runs >= 33


def test_a_model_too_fast_to_time_is_looped_and_says_so(net, image):
    tiny = {"x": image["x"][:, :, :4, :4]}
    measured = compare({"tiny": net(4, size=4)}, tiny, backend=ONE, max_seconds=0.2)
    assert measured.loops["tiny"] > 1
    assert measured.timing("tiny").runs == len(measured.samples) * measured.loops["tiny"]
    assert any("tiny" in note and "loops" in note for note in measured.notes)


def test_more_threads_than_cores_is_noted(net, image):
    many = compare({"a": net(16)}, image, backend=OnnxRuntime(threads=cores() + 1), min_runs=2, max_seconds=0.1)
    assert any(f"{cores() + 1} threads" in note for note in many.notes)


def test_a_busy_machine_is_noted(net, image, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(Runner, "sample", lambda _self: rng.lognormal(-5, 1.5))
    noisy = compare({"a": net(16), "b": net(16)}, image, backend=ONE, max_seconds=0.0)
    assert any("busy" in note for note in noisy.notes)


@pytest.mark.parametrize(
    ("feed", "says"),
    [({"z": np.zeros(1)}, "input x"), ({"x": np.zeros((1, 3, 8, 8), np.float32)}, "invalid dimensions")],
)
def test_inputs_that_do_not_fit_are_bad_input(net, feed, says):
    with pytest.raises(BadInput, match=says) as caught:
        compare({"mine": net(8)}, feed)
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)
