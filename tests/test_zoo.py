"""A dozen real architectures, small enough for every run: exact, proven, and about as small as half the width gives.

`benchmarks/coverage.py` walks the full-size networks.
"""

import pytest

import slimnet
from benchmarks.networks import Network, calibrate, prepared
from slimnet.verification.verify import verify
from tests.networks.zoo import NETWORKS

pytestmark = pytest.mark.slow

LAYER_NORM = ("vit", "swin", "swin_v2", "maxvit", "convnext")


def pruned(name: str, allow_inexact: bool) -> tuple[slimnet.Verification, float]:
    build, shape, _ = NETWORKS[name]
    net = prepared(Network(name, "test", build, shape))
    trace = slimnet.trace(net, allow_inexact)
    removed = trace.removed(slimnet.plan(trace, ratio=0.5, round_to=None))
    calibrate(net, slimnet.mask(trace, trace.plan(removed)))
    return verify(trace, removed), trace.parameters(removed) / trace.parameters()


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_and_proven(name):
    result, left = pruned(name, allow_inexact=False)
    assert result.exact
    assert result.unproven == []
    assert left <= NETWORKS[name][2]


@pytest.mark.parametrize("name", LAYER_NORM)
def test_inexact_removal_reaches_the_residual_stream(name):
    result, left = pruned(name, allow_inexact=True)
    assert result.exact
    assert result.unproven == []
    assert left <= 0.35
    assert result.plain_mask_error > 0
