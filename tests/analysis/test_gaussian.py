"""Formulas for Gaussian filters, against numbers of the paper and against draws."""

import numpy as np
import pytest

from slimnet.analysis.gaussian import disagree, l1, l2, mixes, ratio_variance
from slimnet.analysis.similarity import spearman


def filters(sigma, d, n=2000, seed=0):
    return np.random.default_rng(seed).normal(0, sigma, (n, d))


def test_relative_variances_of_the_paper():
    assert l1(0.05, 576).relative[0] == pytest.approx(0.022771, abs=1e-6)
    assert l2(0.05, 576).relative[0] == pytest.approx(0.0010421, abs=1e-6)


def test_in_units_of_the_mean_both_norms_are_alike():
    """What makes l1 look more applicable is the unit: .571/d against .5/d."""
    for d in (27, 576, 4608):
        assert l1(0.02, d).relative[1] * d == pytest.approx(np.pi / 2 - 1)
        assert l2(0.02, d).relative[1] * d == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize(("moments", "order"), [(l1, 1), (l2, 2)])
def test_moments_are_those_of_draws(moments, order):
    norms = np.linalg.norm(filters(0.05, 100, 20000), order, axis=1)
    assert norms.mean() == pytest.approx(moments(0.05, 100).mean, rel=2e-3)
    assert norms.var() == pytest.approx(moments(0.05, 100).variance, rel=0.05)


def test_ratio_of_the_norms_hardly_varies():
    w = filters(0.05, 100, 20000)
    one, two = (np.linalg.norm(w, order, axis=1) for order in (1, 2))
    assert np.var((one / one.mean()) / (two / two.mean())) < ratio_variance(100)


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ((100, 0.05), (100, 0.05), False),  # the same size: alike
        ((100, 0.05), (400, 0.05), False),  # another size, but sigma_A / sigma_B is near neither
        ((100, 0.2), (400, 0.05), True),  # sigma_A / sigma_B = d_B / d_A
        ((100, 0.1), (400, 0.05), True),  # sigma_A / sigma_B = sqrt(d_B / d_A)
    ],
)
def test_two_layers_together(a, b, apart):
    """Condition of Table 3, against the rank correlation of l1 and l2 over the filters of both layers."""
    w = [filters(sigma, d, seed=k) for k, (d, sigma) in enumerate((a, b))]
    scores = [np.concatenate([np.linalg.norm(rows, order, axis=1) for rows in w]) for order in (1, 2)]
    assert disagree(a, b) == apart
    assert (spearman(scores)[0, 1] < 0.9) == apart


def test_which_norm_mixes_the_layers():
    assert mixes("l1", (100, 0.2), (400, 0.05))
    assert not mixes("l2", (100, 0.2), (400, 0.05))
    assert mixes("l2", (100, 0.1), (400, 0.05))
