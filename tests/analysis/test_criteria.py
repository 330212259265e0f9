"""Ten criteria on whole networks, and what is said about them."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import slimnet
from slimnet.analysis.advice import notices
from slimnet.analysis.criteria import CRITERIA, study
from slimnet.analysis.gaussian import l2
from slimnet.analysis.layers import layers
from slimnet.common.errors import BadInput
from slimnet.data.load import Data, load_data
from slimnet.data.samples import Samples
from slimnet.methods import create
from slimnet.pipeline.analyze import analyze
from tests.networks.files import DIGITS
from tests.networks.graphs import net
from tests.networks.named import PINNED

FROM_DATA = {"apoz", "entropy", "taylor-l1", "taylor-l2"}

#: Two layers of filters, no batch norm.
PLAIN = """(float[N,3,8,8] x) => (y) <float[8,3,3,3] a, float[12,8,3,3] b, float[12,5] c>
    { h = Conv(x, a) i = Relu(h) j = Conv(i, b) k = Relu(j)
      l = GlobalAveragePool(k) m = Flatten(l) y = MatMul(m, c) }"""


def plain(a=None, b=None):
    """The network above, its filters drawn at random unless given."""
    random = np.random.default_rng(0)
    given = {"a": a, "b": b}
    shapes = {"a": (8, 3, 3, 3), "b": (12, 8, 3, 3)}
    weights = {n: random.normal(0, 0.1, shapes[n]) if w is None else w for n, w in given.items()}
    return slimnet.trace(net(PLAIN, **{n: w.astype(np.float32) for n, w in weights.items()}))


@pytest.fixture(scope="module")
def digits():
    return study(slimnet.trace(slimnet.load(DIGITS)), load_data("digits"))


def test_all_ten_on_a_trained_network(digits):
    assert digits.criteria == CRITERIA
    assert not digits.skipped
    assert digits.samples == 1079
    for group in digits.groups:
        assert set(group.scores) == set(CRITERIA)
        assert group.spearman.shape == group.overlap.shape == (10, 10)
        assert not np.isnan(group.spearman).any()
        assert group.spearman.diagonal() == pytest.approx(1)


def test_scores_are_those_of_prune(digits):
    trace = slimnet.trace(slimnet.load(DIGITS))
    for name in ("l1", "fermat"):
        expected = create(name).score(trace.params(), trace.groups)
        assert all(np.array_equal(g.scores[name], e) for g, e in zip(digits.groups, expected, strict=True))


def test_norms_agree_inside_a_layer_and_the_others_do_not(digits):
    """The shape of the paper's Fig. 3, on the first layer inside a block of a small trained network."""
    order = {name: k for k, name in enumerate(CRITERIA)}
    norms = [order[name] for name in ("l1", "l2", "fermat", "gm")]
    group = next(g for g in digits.groups if g.name == "layer1.conv1.weight")
    assert group.spearman[np.ix_(norms, norms)].min() > 0.9
    assert abs(group.spearman[order["l1"], [order[n] for n in ("apoz", "taylor-l1", "taylor-l2")]]).max() < 0.6


def test_across_layers_all_scores_are_ranked_together(digits):
    table = [np.concatenate([g.scores[name] for g in digits.groups]) for name in ("l1", "gm")]
    k = CRITERIA.index("gm")
    assert digits.raw.spearman[0, k] == pytest.approx(spearmanr(*table).statistic)
    assert digits.raw.spearman[0, k] < digits.groups[0].spearman[0, k] - 0.2
    gone = digits.raw.removed["l1"]
    assert sum(gone) == len(table[0]) // 2
    means = [np.mean(g.scores["l1"]) for g in digits.groups]
    assert gone[int(np.argmin(means))] > gone[int(np.argmax(means))]


def test_without_data_they_are_skipped_and_not_zero():
    found = study(slimnet.trace(slimnet.load(DIGITS)))
    assert set(found.skipped) == FROM_DATA
    assert all("`data`" in why for why in found.skipped.values())
    assert not FROM_DATA & set(found.groups[0].scores)
    assert found.samples == 0


def test_without_gradients_or_batch_norm_they_are_skipped():
    random = np.random.default_rng(0)
    samples = {"x": random.random((40, 3, 8, 8), np.float32), "y": random.integers(0, 5, 40)}
    found = study(plain(), Data("d", None, None, Samples(**samples)))
    assert set(found.skipped) == {"bn-gamma", "bn-beta", "taylor-l1", "taylor-l2"}
    assert "`arch`" in found.skipped["taylor-l1"]
    assert "batch norm" in found.skipped["bn-gamma"]
    assert {"apoz", "entropy"} <= set(found.criteria)


def test_a_group_that_a_criterion_cannot_rank():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.bn, self.b = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 7, 3)
            self.c = nn.Linear(7, 3)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.bn(self.a(x))))).mean((2, 3)))

    torch.manual_seed(0)
    module = Mixed()
    nn.init.uniform_(module.bn.weight)
    found = study(slimnet.trace(slimnet.load(module, inputs="1x1x8x8")))
    first, second = found.groups
    gamma = found.criteria.index("bn-gamma")
    assert "bn-gamma" in first.scores
    assert second.skipped["bn-gamma"] == "no batch norm behind these filters"
    assert np.isnan(second.spearman[gamma]).all()
    assert found.raw.removed["bn-gamma"] == [3, None]
    assert found.raw.spearman[0, gamma] == pytest.approx(first.spearman[0, gamma])


def test_expected_spread_is_that_of_gaussian_filters():
    group = study(plain()).groups[1]
    assert (group.units, group.size) == (12, 72)
    assert group.rms == pytest.approx(0.1, rel=0.05)
    assert group.applicability["l2"].expected == pytest.approx(l2(group.rms, 72).relative[1])
    assert group.applicability["gm"].expected is None
    assert group.applicability["l1"].by_mean == pytest.approx(group.scores["l1"].var() / group.scores["l1"].mean())


# -- plain words -----------------------------------------------------------------------------------------------------


def said(trace, kind, **options):
    return [notice for notice in notices(study(trace, **options)) if notice.kind == kind]


def scaled(shape, norms, seed=0):
    """Filters of given l2 norms."""
    rows = np.random.default_rng(seed).normal(size=(shape[0], int(np.prod(shape[1:]))))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) * np.asarray(norms)[:, None]).reshape(shape)


def test_a_criterion_that_cannot_tell_filters_apart():
    (notice,) = said(plain(b=scaled((12, 8, 3, 3), 1 + 0.001 * np.arange(12))), "indistinct")[-1:]
    assert notice.groups == ("b",)
    assert {"l2", "gm"} <= set(notice.criteria)
    assert "cannot tell the filters of b apart" in notice.text


def test_global_pruning_that_would_erase_a_layer():
    small, large = scaled((8, 3, 3, 3), 0.1 + 0.01 * np.arange(8)), scaled((12, 8, 3, 3), 5 + np.arange(12))
    (notice,) = said(plain(small, large), "erased", ratio=0.4)
    assert notice.groups == ("a",)
    assert set(notice.criteria) == {"l1", "l2", "fermat", "gm"}
    assert "8 of the 8 filters of a" in notice.text
    assert "isomorphic" in notice.text
    alike = scaled((8, 3, 3, 3), 5 + np.arange(8))
    assert all("l2" not in notice.criteria for notice in said(plain(alike, large), "erased"))


def test_a_layer_that_is_erased_although_normalised():
    """One large filter makes all others of its layer look small."""
    uneven = scaled((12, 8, 3, 3), [*[0.1 + 0.01 * k for k in range(11)], 90.0])
    found = said(plain(scaled((8, 3, 3, 3), 2 + 0.01 * np.arange(8)), uneven), "erased", ratio=0.55)
    (notice,) = [notice for notice in found if "l2" in notice.criteria]
    assert notice.text.startswith("--scope global with")
    assert "11 of the 12 filters of b" in notice.text


def test_equal_scores():
    found = said(plain(a=np.zeros((8, 3, 3, 3))), "equal")
    assert found[0].groups == ("a",)
    assert "8 of the 8 filters of a" in found[0].text


def test_norms_that_part_across_layers():
    """sigma_A / sigma_B = d_B / d_A: the l1 norms of both layers mix, the l2 norms do not."""
    text = PLAIN.replace("[8,3,3,3]", "[60,3,3,3]").replace("[12,8,3,3]", "[60,60,3,3]").replace("[12,5]", "[60,5]")
    random = np.random.default_rng(0)
    a, b = (random.normal(0, sigma, shape).astype(np.float32) for sigma, shape in
            ((0.2, (60, 3, 3, 3)), (0.01, (60, 60, 3, 3))))  # fmt: skip
    (notice,) = said(slimnet.trace(net(text, a=a, b=b)), "mixed")
    assert set(notice.groups) == {"a", "b"}
    assert "27 weights" in notice.text


def test_too_few_filters():
    text = PLAIN.replace("[8,3,3,3]", "[2,3,3,3]").replace("[12,8,3,3]", "[12,2,3,3]")
    (notice,) = said(slimnet.trace(net(text)), "few")
    assert notice.groups == ("a",)
    assert notice.text == "the filters of a are fewer than 3, too few to compare rankings"


def test_layers_of_which_the_same_is_to_be_said_share_a_notice():
    texts = [notice.text for notice in said(plain(np.ones((8, 3, 3, 3)), np.ones((12, 8, 3, 3))), "equal")]
    assert texts == [
        "l1, l2, fermat and gm give the same score to 8 of the 8 filters of a and 12 of the 12 filters of b: "
        "which of them go is arbitrary"
    ]


# -- everything ------------------------------------------------------------------------------------------------------


def test_layers_are_filters_by_rows():
    found = {layer.name: layer for layer in layers(plain())}
    assert {name: layer.filters.shape for name, layer in found.items()} == {"a": (8, 27), "b": (12, 72), "c": (5, 12)}
    assert [layer.is_conv for layer in found.values()] == [True, True, False]


def test_an_analysis_is_json():
    found = analyze(plain())
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["params"] == 8 * 27 + 12 * 72 + 60
    assert content["criteria"]["groups"][0]["name"] == "a"
    assert len(content["criteria"]["groups"][0]["scores"]["l1"]) == 8
    assert content["distribution"]["layers"][0]["tests"].keys() | content["distribution"]["layers"][0]["skipped"].keys()
    assert content["compressibility"]["units"].keys() == {"a", "b"}
    assert content["data"] is None


def test_nothing_to_analyse():
    with pytest.raises(BadInput, match="nothing can be removed"):
        study(slimnet.trace(net(PINNED)))


def test_weights_that_are_not_finite():
    with pytest.raises(BadInput, match="'a' holds NaN"):
        study(plain(a=np.full((8, 3, 3, 3), np.nan)))
