import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing import gate as module
from slimnet.timing.conditions import Conditions
from slimnet.timing.gate import gate, parse_tolerance
from slimnet.timing.latency import Comparison

ONE = OnnxRuntime(threads=1)
CONDITIONS = Conditions({"x": (1, 3, 16, 16)}, {}, 0, ONE.describe())


def test_a_really_slower_model_is_slower(net):
    verdict = gate(net(64), net(32), CONDITIONS, ONE, seconds=0.5)
    assert verdict.slower
    assert verdict.ratio.low > 1.05


def test_a_faster_model_is_not_slower(net):
    assert not gate(net(32), net(64), CONDITIONS, ONE, seconds=0.5).slower


@pytest.mark.parametrize("channels", [8, 64])
def test_the_same_model_passes_twenty_times_out_of_twenty(net, channels):
    model = net(channels)
    assert [gate(model, model, CONDITIONS, ONE, seconds=0.25).slower for _ in range(20)] == [False] * 20


def test_a_model_slower_in_one_of_two_sessions_only_passes(net, monkeypatch):
    measured = iter([1.2, 1.0])

    def compare(models, *_args, **_options):
        ratio = next(measured)
        samples = np.tile([ratio if name == "candidate" else 1.0 for name in models], (20, 1))
        return Comparison(tuple(models), samples, dict.fromkeys(models, 1), ())

    monkeypatch.setattr(module, "compare", compare)
    assert not gate(net(8), net(8), CONDITIONS, ONE).slower
    assert next(measured, None) is None


def test_the_verdict_tells_its_numbers(net):
    verdict = gate(net(64), net(16), CONDITIONS, ONE, tolerance=0.1, seconds=0.3)
    for number in (verdict.ratio.value, verdict.ratio.low, 1.1):
        assert f"{number:.3f}" in str(verdict)
    assert verdict.to_json()["slower"] is True
    assert (
        verdict.to_json()["latency_ms"]["candidate"]["median"] > verdict.to_json()["latency_ms"]["baseline"]["median"]
    )


@pytest.mark.parametrize(
    ("given", "fraction"), [("5%", 0.05), ("0.05", 0.05), (0.1, 0.1), ("0", 0.0), (" 12.5 %", 0.125)]
)
def test_tolerances_are_fractions_or_per_cent(given, fraction):
    assert parse_tolerance(given) == pytest.approx(fraction)


@pytest.mark.parametrize("given", ["", "five", "5", "-1%", "nan", "100%"])
def test_other_tolerances_are_bad_input(given):
    with pytest.raises(BadInput, match="--tolerance"):
        parse_tolerance(given)
