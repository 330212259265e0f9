"""The four tests of the weight distribution, on weights whose distribution is known."""

import numpy as np
import pytest
from scipy.stats import kstest, ttest_1samp
from scipy.stats import t as student

from slimnet.analysis.cwda import distribution, examine, gaussian, gaussian_sample, magnitude, mean, variance
from slimnet.analysis.layers import Layer
from slimnet.graph.parameters import Use

RANDOM = np.random.default_rng


def layer(filters, op="Conv"):
    return Layer("w", Use(op, "W"), np.asarray(filters, np.float32))


def test_gaussian_weights_pass_everything():
    found = examine(layer(RANDOM(0).normal(0, 0.02, (64, 576))))
    assert all(test.passes for test in found.tests.values())
    assert not found.skipped
    assert found.tests["gaussian"].effect < 0.01
    assert found.std == pytest.approx(0.02, rel=0.01)


def test_many_weights_are_never_gaussian():
    """Of 6e5 weights of Student's t with 10 degrees of freedom a test is sure, of 1000 plain Kolmogorov-Smirnov
    notices nothing; Lilliefors', which knows that mean and spread were estimated, is sharper."""
    weights = student(10).rvs(600_000, random_state=0)
    scaled = weights / weights.std()
    assert kstest(scaled, "norm").pvalue < 1e-100
    assert kstest(scaled[:1000], "norm").pvalue > 0.05
    filters = weights.reshape(600, 1000)
    every, some = gaussian(filters), gaussian_sample(filters)
    assert not every.passes
    assert every.p == pytest.approx(0.001), "the least that its table knows"
    assert some.p > 10 * every.p
    assert every.effect < 0.03, "and yet the distribution is close"


def test_uniform_weights_are_not_gaussian():
    assert not gaussian_sample(RANDOM(0).uniform(-1, 1, (40, 100))).passes


def test_filters_of_different_variance():
    alike = RANDOM(0).normal(0, 1, (50, 400))
    unlike = alike * np.linspace(0.1, 2, 50)[:, None]
    assert variance(alike * 0.02).passes
    assert not variance(unlike).passes
    assert variance(unlike * 0.02).passes, "the bound is absolute, and loose for small weights"
    assert variance(unlike * 0.02).effect == pytest.approx(variance(unlike).effect)
    assert variance(unlike).effect > 5 * variance(alike).effect


def test_what_varies_is_the_variance_of_the_filters():
    """Filters of -s and s have the variance s^2: 1, 4, 9, 16 and 25, whose mean is 11 and whose own variance 74.8."""
    filters = np.outer([1.0, 2, 3, 4, 5], [-1, 1, -1, 1])
    found = variance(filters)
    assert found.value == pytest.approx(74.8)
    assert found.effect == pytest.approx(74.8**0.5 / 11)


def test_a_mean_that_is_not_zero():
    noise = RANDOM(0).normal(0, 0.02, (50, 400))
    assert mean(noise).passes
    for shift in (0.05, -0.05):
        found = mean(noise + shift)
        assert not found.passes
        assert found.value == pytest.approx(shift, abs=1e-3)
        assert found.effect == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_magnitude_is_a_t_test_of_what_is_off_the_diagonal(shape):
    filters = RANDOM(0).normal(0.1, 0.2, shape)
    moment = filters.T @ filters / len(filters)
    entries = moment[np.triu_indices(shape[1], 1)]
    found = magnitude(filters)
    assert found.value == pytest.approx(entries.mean())
    assert found.p == pytest.approx(ttest_1samp(entries, 0.01, alternative="greater").pvalue, abs=1e-9)
    assert found.effect == pytest.approx(entries.mean() / moment.diagonal().mean())
    assert not magnitude(filters + 0.2).passes


@pytest.mark.parametrize(
    ("filters", "test", "why"),
    [
        (RANDOM(0).normal(0, 1, (3, 40)), "variance", "only 3 filters"),
        (RANDOM(0).normal(0, 1, (4, 5)), "gaussian", "only 20 weights"),
        (RANDOM(0).normal(0, 1, (40, 1)), "magnitude", "single weight"),
        (np.ones((10, 10)), "mean", "equal"),
        (np.full((10, 10), np.nan), "gaussian", "finite"),
    ],
)
def test_what_cannot_be_tested_is_said(filters, test, why):
    found = examine(layer(filters))
    assert why in found.skipped[test]
    assert test not in found.tests


def test_filters_that_are_all_the_same():
    same = np.tile(RANDOM(0).normal(0, 0.1, 50), (20, 1))
    assert variance(same).passes
    assert variance(same).p == 1


def test_convolutions_are_counted():
    weights = RANDOM(0).normal(0, 0.02, (20, 50))
    shifted = weights + 0.1
    assert distribution([layer(weights), layer(shifted), layer(shifted, "Gemm")]).passing["mean"] == 0.5
    found = distribution([layer(shifted, "Gemm")])
    assert (found.counted, found.passing["mean"]) == ("all layers", 0)
    assert "variance" not in distribution([layer(weights[:2])]).passing
