"""Rank correlation, common sets and relative variance."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from slimnet.analysis.similarity import lowest, overlap, relative_variance, spearman


def test_spearman_of_a_swap():
    assert spearman([[1, 2, 3, 4, 5], [1, 3, 2, 5, 4]])[0, 1] == pytest.approx(0.8)


def test_spearman_is_scipys_with_ties():
    scores = np.random.default_rng(0).integers(0, 5, (4, 30))
    assert spearman(scores) == pytest.approx(spearmanr(scores, axis=1).statistic)


def test_what_cannot_be_ranked_has_no_correlation():
    scores = [[1, 2, 3], [5, 5, 5], [1, np.nan, 3]]
    found = spearman(scores)
    assert found[0, 0] == pytest.approx(1)
    assert np.isnan(found[1:]).all()
    assert np.isnan(found[:, 1:]).all()
    assert np.isnan(spearman([[1, 2], [2, 1]])).all(), "two units are always alike or opposed"


def test_common_sets():
    scores = [[1, 2, 3, 4], [2, 1, 4, 3], [4, 3, 2, 1], [np.nan, 1, 2, 3]]
    found = overlap(scores, 0.5)
    assert found[:3, :3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert np.isnan(found[3]).all()
    assert overlap(scores, 0.7)[0, 2] == pytest.approx(2 / 3)
    assert np.isnan(overlap([[1.0]], 0.5)).all(), "a single unit never goes"


def test_lowest_takes_the_first_of_equals():
    assert lowest([[1, 1, 1, 0]], 0.5).tolist() == [[True, False, False, True]]
    assert lowest([[3, 2, 1]], 0.99).sum() == 2


def test_relative_variance():
    assert relative_variance([0.91, 0.92, 0.93, 0.92])[0] == pytest.approx(5.4348e-5, rel=1e-4)
    assert relative_variance([0.9, 0.8, 0.4, 0.01])[0] == pytest.approx(0.235581, rel=1e-5)


def test_only_one_of_the_forms_has_a_unit():
    scores = np.array([1.0, 2, 4])
    (mean, square), (mean10, square10) = relative_variance(scores), relative_variance(10 * scores)
    assert mean10 == pytest.approx(10 * mean)
    assert square10 == pytest.approx(square)
    assert np.isnan(relative_variance([0.0, 0.0])).all()
