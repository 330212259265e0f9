"""slimnet prune --ratio auto: every group loses what the PQ bound of its scores lets go."""

import json

import numpy as np
import pytest

from tests.networks.files import saved
from tests.networks.named import CNN

QUICK = ("--bench-seconds", 0, "--no-prove", "--round-to", "none", "--json")


@pytest.fixture
def uneven(tmp_path):
    """l1 norms of conv1: one filter of 8 is large; of conv2: all 12 are equal."""
    one = np.ones((8, 3, 3, 3), np.float32)
    one[0] *= 20
    return saved(tmp_path / "in" / "net.onnx", CNN, conv1=one, conv2=np.ones((12, 8, 3, 3), np.float32))


@pytest.mark.parametrize(("ratio", "after"), [("auto", 2), ("auto?p=0.5&q=1", 5), ("auto?beta=0.5", 4)])
def test_widths_follow_from_the_bound(slimnet, uneven, ratio, after):
    """Norms 20 and seven times 1: r = 27^2 / 407 = 1.79 at (1, 2), (7 + sqrt 20)^2 / 27 = 4.87 at (.5, 1)."""
    outcome = slimnet("prune", uneven, "--ratio", ratio, *QUICK)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["how"]["ratio"] == "auto"
    assert {g["name"]: g["after"] for g in report["groups"]} == {"conv1": after, "conv2": 12}


def test_exceptions_still_count(slimnet, uneven):
    report = json.loads(slimnet("prune", uneven, "--ratio", "auto", "--ratio-for", "conv2=0.25", *QUICK).out)
    assert [g["after"] for g in report["groups"]] == [2, 9]
    report = json.loads(slimnet("prune", uneven, "--ratio", "auto", "--ratio-for", "conv2=0.25", "--ignore", "conv1",
                                *QUICK).out)  # fmt: skip
    assert [g["after"] for g in report["groups"]] == [8, 9]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--ratio", "auto", "--scope", "global"), "scope 'global': takes one ratio for all groups"),
        (("--ratio", "auto?gamma=much"), "gamma=much is not understood"),
        (("--ratio", "auto?p=3"), "0 < p <= 1 <= q"),
        (("--ratio", "auto", "--method", "largest"), "scores that are not negative"),
        (("--ratio", "half"), "half is not a number"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, tuple) else "",
)
def test_what_cannot_be_pruned(slimnet, uneven, words, says):
    outcome = slimnet("prune", uneven, *words)
    assert outcome.code == 2
    assert says in outcome.line
