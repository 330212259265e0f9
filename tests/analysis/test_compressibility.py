"""Numbers of Diao et al. 2023, and their closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimnet.analysis.compressibility import PAIRS, Rule, bound, compressibility, gini, measure, pq_index, prunable
from slimnet.analysis.layers import Layer
from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Use
from slimnet.planning.pq import unit_ratios as ratios_of

GEMM = Use("Gemm", "B")
FOUR, TEN = np.array([4.0, 3, 2, 1]), np.array([10.0, *[1] * 9])
HALF, TWO = Rule(0.5, 1.0), Rule(1.0, 2.0)
vectors = st.lists(st.floats(0.001, 1000), min_size=1, max_size=40).map(np.array)


@pytest.mark.parametrize(
    ("w", "rule", "index", "keep"),
    [(FOUR, HALF, 0.055586, 3.777657), (FOUR, TWO, 0.087129, 3.333333), (TEN, HALF, 0.221468, 7.785316),
     (TEN, TWO, 0.424507, 3.311927)],
)  # fmt: skip
def test_index_and_bound(w, rule, index, keep):
    assert pq_index(w, rule.p, rule.q) == pytest.approx(index, abs=1e-6)
    assert bound(pq_index(w, rule.p, rule.q), w.size, rule) == pytest.approx(keep, abs=1e-6)


def test_slack_of_the_bound():
    assert bound(pq_index(FOUR, 0.5, 1), 4, Rule(0.5, 1, eta=0.1)) == pytest.approx(3.122030, abs=1e-6)


@given(vectors)
def test_bound_is_hoyer_square_at_1_2(w):
    assert bound(pq_index(w, 1, 2), w.size, TWO) == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert bound(pq_index(w, 0.5, 1), w.size, HALF) == pytest.approx(np.sqrt(w).sum() ** 2 / w.sum())


def test_gini():
    assert gini(FOUR) == pytest.approx(0.25)
    assert gini(TEN) == pytest.approx(0.426316, abs=1e-6)
    assert gini([0, 0, 1, 0]) == pytest.approx(0.75)
    assert gini([3, 3, 3]) == pytest.approx(0)


def test_one_weight_and_equal_weights():
    one = [0, 0, -5, 0]
    assert pq_index(one, 0.5, 1) == pytest.approx(0.75)
    assert pq_index(one, 1, 2) == pytest.approx(0.5)
    for p, q in PAIRS:
        assert pq_index(np.full(7, 0.3), p, q) == pytest.approx(0, abs=1e-12)
        assert pq_index(np.zeros(7), p, q) == 0


@given(vectors, st.floats(0.1, 10), st.sampled_from([(0.2, 1.0), (0.5, 1.0), (1.0, 1.8), (1.0, 2.0)]))
def test_scale_copies_and_range(w, factor, pair):
    index = pq_index(w, *pair)
    assert pq_index(w * factor, *pair) == pytest.approx(index, abs=1e-9)
    assert pq_index(np.concatenate([w, w]), *pair) == pytest.approx(index, abs=1e-9)
    assert 0 <= index <= 1 - w.size ** (1 / pair[1] - 1 / pair[0]) + 1e-9
    assert pq_index(np.concatenate([w, np.zeros(w.size)]), *pair) > index, "zeros that were trained count"


def test_small_p_does_not_overflow():
    assert 0 < pq_index(np.array([1e30, 1e-30, 1.0], np.float32), 0.01, 1) <= 1


def test_rows_and_masks_are_vectors_of_their_own():
    w = np.stack([TEN, np.r_[FOUR, 9, 9, 9, 9, 9, 9]])
    mask = np.stack([np.ones(10, bool), np.arange(10) < 4])
    for of in (lambda *a: pq_index(a[0], 0.5, 1, *a[1:]), gini, lambda *a: prunable(a[0], TWO, *a[1:])):
        assert of(w, mask).tolist() == pytest.approx([float(of(TEN)), float(of(FOUR))])


def test_how_many_may_go():
    assert prunable(TEN, HALF) == 2, "10 - ceil(7.79), and not one less by a rounding error"
    assert prunable(TEN, TWO) == 6
    assert prunable(TEN, Rule(1, 2, ceil=False)) == 6
    assert prunable(TEN, Rule(0.5, 1, gamma=3)) == 6
    assert prunable(TEN, Rule(0.5, 1, gamma=9)) == 9, "no more than beta"
    assert prunable(TEN, Rule(0.5, 1, gamma=9, beta=0.5)) == 5
    assert prunable(np.ones(10), TWO) == 0
    assert prunable(np.zeros((2, 0)), TWO).tolist() == [0, 0]


def test_ratios_of_groups():
    ratios = ratios_of([TEN, np.ones(5), np.array([1.0]), np.array([np.nan, 1])], TWO)
    assert ratios.tolist() == [0.6, 0, 0, 0]
    with pytest.raises(BadInput, match="negative"):
        ratios_of([-TEN], TWO)
    nearly = [np.linspace(1, 1.3, 20)]
    with pytest.raises(BadInput, match=r"too much alike.*gamma=16"):
        ratios_of(nearly, TWO)
    assert ratios_of(nearly, Rule(gamma=16, ceil=False)) > 0 == ratios_of([*nearly, TEN], TWO)[0]
    with pytest.raises(BadInput, match="gamma=10"):
        ratios_of([np.ones(5)], TWO)


@pytest.mark.parametrize("wrong", [{"p": 0}, {"p": 1, "q": 1}, {"p": 2}, {"beta": 1}, {"gamma": 0}, {"eta": -1}])
def test_rules_that_mean_nothing(wrong):
    with pytest.raises(BadInput):
        Rule(**wrong)


def test_rules_from_text():
    assert Rule.parse("auto") == Rule(p=1.0, q=2.0, eta=0.0, gamma=1.0, beta=0.9, ceil=False)
    assert Rule.parse("auto?gamma=3&beta=0.5&p=0.5&q=1&eta=0.1&ceil=false") == Rule(0.5, 1, 0.1, 3, 0.5, False)
    for text in ("auto?gamma=x", "auto?delta=1", "auto?ceil=1", "auto?gamma"):
        with pytest.raises(BadInput, match="not understood"):
            Rule.parse(text)


def test_a_network():
    rows = np.stack([np.r_[FOUR], [1.0, 1, 1, 1]]).astype(np.float32)
    found = compressibility([Layer("a", GEMM, rows), Layer("b", GEMM, TEN[None])], ["g", "h"], [FOUR, TEN])
    assert found.whole == measure(np.r_[rows.ravel(), TEN])
    (a, b), units = found.layers, found.units
    assert (a.name, a.layer.size, a.neurons.neurons) == ("a", 8, 2)
    assert a.neurons.gini == pytest.approx((0, 0.0625, 0.125, 0.1875, 0.25), abs=1e-6)
    assert b.layer.indices[1].ratio == 0.6
    assert units["h"] == measure(TEN)
    assert found.all_units == measure(np.r_[FOUR, TEN])
