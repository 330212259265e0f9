"""Are the weights of a layer what the paper assumes: independent, Gaussian, of mean zero and alike in every filter?

The four tests of the Convolutional Weight Distribution Assumption, Huang et al. 2021, "Rethinking the Pruning Criteria
for Convolutional Neural Network", Section 2. To pass is not to be rejected at p >= 0.05. The bounds of the last three
are loose for weights of the usual size (0.02), so every test also gives an effect size, which does not depend on how
many weights there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from slimnet.analysis.layers import Layer
from slimnet.common.required import MissingPackage, required

Array = npt.NDArray[np.float64]

LEVEL = 0.05
#: Bounds of the null hypotheses, as published.
VARIANCE, MEAN, MAGNITUDE = 1e-4, 0.01, 0.01
#: Weights drawn for the test that a million weights would fail whatever they are.
SUBSAMPLE, SEEDS = 1000, 5
#: Fewer weights, or filters, than this are not tested.
FEWEST_WEIGHTS, FEWEST_FILTERS = 30, 5


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test of one layer.

    Attributes:
        value: The test statistic that the null hypothesis is about.
        p: The probability of at least such a value under the null hypothesis.
        passes: Whether the null hypothesis is not rejected.
        effect: How far the weights are from the assumption, independent of their unit and their number.
    """

    value: float
    p: float
    passes: bool
    effect: float


@dataclass(frozen=True)
class LayerTests:
    """The tests of one layer; `skipped` says why others were not possible."""

    name: str
    op: str
    filters: int
    size: int
    std: float
    tests: Mapping[str, Outcome]
    skipped: Mapping[str, str]


@dataclass(frozen=True)
class Distribution:
    """The tests of all layers.

    Attributes:
        layers: The tests of each layer.
        counted: "convolutions", or "all layers" of a network without any.
        passing: By test, the fraction that passes of those counted layers that could be tested.
    """

    layers: tuple[LayerTests, ...]
    counted: str
    passing: Mapping[str, float]


def distribution(layers: Iterable[Layer]) -> Distribution:
    """Test every layer, by all tests that can be had here: see `unavailable`."""
    every, why = list(layers), unavailable()
    found = tuple(examine(layer, why) for layer in every)
    convs = [tests for layer, tests in zip(every, found, strict=True) if layer.is_conv]
    passing = {}
    for name in TESTS:
        results = [tests.tests[name].passes for tests in convs or found if name in tests.tests]
        if results:
            passing[name] = sum(results) / len(results)
    return Distribution(found, "convolutions" if convs else "all layers", passing)


def unavailable() -> str:
    """Why the tests of a Gaussian are left out: the package that they need is missing. Empty if it is not."""
    try:
        _lilliefors_test()
    except MissingPackage as missing:
        return str(missing)
    return ""


def examine(layer: Layer, no_gaussian: str = "") -> LayerTests:
    """All tests of one layer; those of a Gaussian are skipped for the reason given, if one is."""
    filters = np.asarray(layer.filters, np.float64)
    tests: dict[str, Outcome] = {}
    skipped: dict[str, str] = {}
    for name, test in TESTS.items():
        if why := _why_not(name, filters) or (name.startswith("gaussian") and no_gaussian):
            skipped[name] = why
        else:
            tests[name] = test(filters)
    n, d = filters.shape
    return LayerTests(layer.name, layer.op, n, d, float(filters.std()), tests, skipped)


def _why_not(test: str, filters: Array) -> str | None:
    n, d = filters.shape
    if not np.isfinite(filters).all():
        return "the weights are not all finite"
    if filters.max() == filters.min():
        return "all weights are equal"
    if test.startswith("gaussian"):
        if filters.size < FEWEST_WEIGHTS:
            return f"only {filters.size} weights, too few; it takes {FEWEST_WEIGHTS}"
        few = test == "gaussian-sample" and filters.size <= SUBSAMPLE
        return f"only {filters.size} weights, all of which the test on all weights looks at" if few else None
    if n < FEWEST_FILTERS:
        return f"only {n} filters, too few; it takes {FEWEST_FILTERS}"
    if d < 2:
        return None if test == "mean" else "filters of a single weight have no variance and no covariance"
    return None


def gaussian(filters: Array) -> Outcome:
    """Lilliefors' test of all weights of a layer; value and effect are the largest distance of the two distributions.

    With hundreds of thousands of weights it rejects any real network; the effect says how far off it is.
    """
    distance, p = _lilliefors(filters.ravel())
    return Outcome(distance, p, p >= LEVEL, distance)


def gaussian_sample(filters: Array) -> Outcome:
    """The same on `SUBSAMPLE` weights drawn without replacement: the medians over `SEEDS` draws."""
    draws = [np.random.default_rng(seed).choice(filters.ravel(), SUBSAMPLE, replace=False) for seed in range(SEEDS)]
    distance, p = np.median([_lilliefors(draw) for draw in draws], axis=0).tolist()
    return Outcome(distance, p, p >= LEVEL, distance)


def _lilliefors(weights: Array) -> tuple[float, float]:
    """Distance and p-value, which the table behind it bounds by 0.001 and 0.99."""
    distance, p = _lilliefors_test()(weights)
    return float(distance), float(p)


def _lilliefors_test() -> Callable[[Array], tuple[float, float]]:
    with required("statsmodels", "Lilliefors' test of the distribution of weights"):
        from statsmodels.stats.diagnostic import lilliefors
    test: Callable[[Array], tuple[float, float]] = lilliefors
    return test


def variance(filters: Array) -> Outcome:
    """H0: the variances of the filters vary by at most 1e-4, as mean squared distance from their mean.

    One-sided one-sample t-test; the effect is the standard deviation of the variances over their mean.
    """
    variances = filters.var(axis=1)
    squares = (variances - variances.mean()) ** 2
    p = _greater(squares, VARIANCE)
    return Outcome(float(squares.mean()), p, p >= LEVEL, float(variances.std() / variances.mean()))


def mean(filters: Array) -> Outcome:
    """H0: the mean of the filters' means lies between -0.01 and 0.01.

    Two one-sided t-tests, of which p is the smaller; the effect is the mean over the standard deviation of the weights.
    """
    means = filters.mean(axis=1)
    p = min(_greater(means, MEAN), _greater(-means, MEAN))
    return Outcome(float(means.mean()), p, p >= LEVEL, float(abs(means.mean()) / filters.std()))


def magnitude(filters: Array) -> Outcome:
    """H0: the second moments of two different weights of a filter are at most 0.01 in the mean.

    One-sided t-test on the entries off the diagonal of F'F / N, F the [N, d] filters; the effect is their mean over
    that of the diagonal.
    """
    n, d = filters.shape
    diagonal = (filters**2).mean(axis=0)
    gram = filters.T @ filters if d < n else filters @ filters.T  # both have the same sum of squares
    count = d * (d - 1) / 2
    average = ((filters.sum(axis=1) ** 2).mean() - diagonal.sum()) / 2 / count
    square = ((gram**2).sum() / n**2 - (diagonal**2).sum()) / 2 / count
    spread = math.sqrt(max(square - average**2, 0) * count / max(count - 1, 1))
    p = float(student.sf((average - MAGNITUDE) / spread * math.sqrt(count), count - 1)) if spread and count > 1 else (
        float(average <= MAGNITUDE))  # fmt: skip
    return Outcome(float(average), p, p >= LEVEL, float(average / diagonal.mean()))


def _greater(sample: Array, bound: float) -> float:
    """p-value of H0: the mean is at most `bound`; of a sample without spread 1 if it is and 0 if not."""
    if sample.std() <= 1e-12 * max(abs(bound), float(np.abs(sample).max())):
        return float(sample.mean() <= bound)
    return float(ttest_1samp(sample, bound, alternative="greater").pvalue)


#: By name, in the order of the paper; the first one twice.
TESTS: Mapping[str, Callable[[Array], Outcome]] = {
    "gaussian": gaussian,
    "gaussian-sample": gaussian_sample,
    "variance": variance,
    "mean": mean,
    "magnitude": magnitude,
}
