"""Least squares near the weight that was there, judged on rows that were held back."""

from __future__ import annotations

import numpy as np
import pytest

from slimnet.recovery.fit import Fit, Rows, Saturation, fit

RNG = np.random.default_rng


def rows(seed: int, count: int, weight, bias, noise: float = 0.0) -> Rows:
    rng = RNG(seed)
    groups, outputs, features = weight.shape
    f = rng.standard_normal((groups, count, features))
    t = f @ weight.transpose(0, 2, 1) + bias[:, None] + noise * rng.standard_normal((groups, count, outputs))
    return Rows(f.astype(np.float32), t.astype(np.float32))


@pytest.fixture
def truth():
    return RNG(1).standard_normal((2, 3, 5)), RNG(2).standard_normal((2, 3))


def test_what_can_be_met_is_met(truth):
    weight, bias = truth
    found = fit(rows(3, 200, *truth), rows(4, 50, *truth), np.zeros_like(weight), np.zeros_like(bias))
    assert np.allclose(found.weight, weight, atol=1e-4)
    assert np.allclose(found.bias, bias, atol=1e-4)
    assert found.after < 1e-9 < found.before


def test_it_is_the_ridge_regression_of_a_textbook(truth):
    weight, _ = truth
    few = rows(3, 40, *truth, noise=0.5)
    start = RNG(5).standard_normal(weight.shape)
    found = fit(few, rows(4, 50, *truth), start, np.zeros((2, 3)), free=False, ridges=[0.1])
    for g in range(2):
        f, t = few.features[g].astype(float), few.targets[g].astype(float)
        ridge = 0.1 * np.trace(f.T @ f) / 5
        # Ridge rows: sqrt(ridge) W = sqrt(ridge) W0 beside f W = t.
        left = np.concatenate([f, np.sqrt(ridge) * np.eye(5)])
        right = np.concatenate([t, np.sqrt(ridge) * start[g].T])
        assert np.allclose(found.weight[g], np.linalg.lstsq(left, right, rcond=None)[0].T)


@pytest.mark.parametrize("free", [False, True])
def test_fewer_rows_than_features_give_what_the_normal_equations_give(free):
    rng = RNG(0)
    f, t = rng.standard_normal((1, 12, 30)), rng.standard_normal((1, 12, 4))
    start, bias = rng.standard_normal((1, 4, 30)), rng.standard_normal((1, 4))
    found = fit(Rows(f, t), Rows(f, t), start, bias, free=free, ridges=[0.01])
    mf, mt = (f.mean(axis=1), t.mean(axis=1)) if free else (np.zeros((1, 30)), bias)
    fc, tc = f[0] - mf, t[0] - mt
    gram = fc.T @ fc
    ridge = 0.01 * np.trace(gram) / 30
    change = np.linalg.solve(gram + ridge * np.eye(30), fc.T @ (tc - fc @ start[0].T))
    assert np.allclose(found.weight[0], start[0] + change.T)


def test_what_was_there_stays_where_nothing_is_better(truth):
    found = fit(rows(3, 6, *truth, noise=5.0), rows(4, 500, *truth), *truth)
    assert found.ridge is None
    assert np.array_equal(found.weight, truth[0])


@pytest.mark.parametrize("features", ["constant", "equal", "zero"])
def test_singular_rows_give_numbers(features):
    f = {"constant": np.ones((1, 20, 4)), "zero": np.zeros((1, 20, 4))}.get(
        features, RNG(0).standard_normal((1, 20, 1)) * np.ones((1, 1, 4))
    )
    t = RNG(1).standard_normal((1, 20, 3))
    found = fit(Rows(f, t), Rows(f, t), np.ones((1, 3, 4)), np.zeros((1, 3)))
    assert np.isfinite(found.weight).all()
    assert np.isfinite(found.bias).all()
    assert found.after <= found.before


def test_what_a_relu_hides_is_no_error():
    """The targets below zero are noise: only what is above can be met, and only that counts."""
    weight = RNG(0).standard_normal((1, 3, 6))

    def made(seed: int) -> Rows:
        f = RNG(seed).standard_normal((1, 400, 6))
        t = f @ weight.transpose(0, 2, 1)
        return Rows(f, np.where(t > 0, t, -10 * RNG(seed + 1).random(t.shape)))

    def error(found: Fit) -> float:
        given = held.features @ found.weight.transpose(0, 2, 1) + found.bias[:, None]
        return float(np.square(np.maximum(given, 0) - np.maximum(held.targets, 0)).sum())

    held, start = made(5), (np.zeros_like(weight), np.zeros((1, 3)))
    plain, found = fit(made(1), held, *start), fit(made(1), held, *start, saturation=Saturation(low=0.0))
    assert error(found) < 0.2 * error(plain)


def test_other_summands_are_made_up_for(truth):
    weight, bias = truth
    whole = rows(3, 200, *truth)
    other = RNG(7).standard_normal(whole.targets.shape).astype(np.float32)
    summed = Rows(whole.features, whole.targets + other, other)
    found = fit(summed, summed, np.zeros_like(weight), np.zeros_like(bias))
    assert np.allclose(found.weight, weight, atol=1e-4)
