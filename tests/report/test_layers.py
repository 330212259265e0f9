"""What report.json says about the scores and widths of layers."""

from dataclasses import asdict

import numpy as np
import pytest

from slimnet.graph.trace import trace
from slimnet.report.bars import cut
from slimnet.report.layers import BINS, histogram, weights
from tests.networks.graphs import net
from tests.networks.named import CNN


def binned(scores, kept):
    """A histogram as in report.json."""
    found = histogram(scores, kept)
    return None if found is None else asdict(found)


def test_a_histogram_counts_every_unit_once():
    scores = np.random.default_rng(0).random(100)
    kept = scores > np.median(scores)
    found = binned(scores, kept)
    assert found["low"] == pytest.approx(scores.min(), rel=1e-5)
    assert found["high"] == pytest.approx(scores.max(), rel=1e-5)
    assert len(found["kept"]) == len(found["removed"]) == BINS
    assert (sum(found["kept"]), sum(found["removed"])) == (50, 50)
    assert cut(found) == pytest.approx((np.median(scores) - scores.min()) / np.ptp(scores), abs=1.5 / BINS)


def test_scores_without_spread_or_meaning():
    assert binned(np.full(4, np.nan), np.ones(4, bool)) is None
    same = binned(np.full(4, 2.0), np.array([True, False, True, True]))
    assert same == {"low": 2.0, "high": 2.0, "kept": [3], "removed": [1]}
    assert cut(same) is None
    assert sum(binned(np.array([1.0, np.inf, 2.0]), np.ones(3, bool))["kept"]) == 2


def test_no_cut_where_kept_and_removed_mix():
    scores = np.arange(8.0)
    assert cut(binned(scores, scores % 2 == 0)) is None
    assert cut(binned(scores, np.ones(8, bool))) is None


def test_every_weight_has_its_axes_groups_and_pins():
    traced = trace(net(CNN))
    removed = np.zeros(traced.n_units, bool)
    removed[traced.groups[0].units[:3]] = True
    found = {weight["name"]: weight for weight in map(asdict, weights(traced, removed))}
    sides = {name: {a["role"]: (a["before"], a["after"]) for a in weight["axes"]} for name, weight in found.items()}
    assert sides == {
        "conv1": {"out": (8, 5), "in": (3, 3)},
        "conv2": {"out": (12, 12), "in": (8, 5)},
        "fc": {"in": (12, 12), "out": (5, 5)},
    }
    assert found["conv2"]["op"] == "Conv"
    by_role = {a["role"]: a for a in found["conv2"]["axes"]}
    assert (by_role["out"]["groups"], by_role["in"]["groups"]) == (["conv2"], ["conv1"])
    (pin,) = next(a for a in found["fc"]["axes"] if a["role"] == "out")["pinned"]
    assert pin["units"] == 5
    assert pin["why"] == "is an output of the network"
