"""Random networks of every family: slim equals mask, and nodes that do nothing change no group."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from slimnet.common.errors import BadInput, VerifyFailed
from slimnet.graph.shrink import shrinkable
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.pipeline.config import RunConfig
from slimnet.pipeline.shrink import shrink
from tests.networks.graphs import branched, exact, feeds, run
from tests.networks.sketch import IMAGE, TOKENS, sketch, with_zeros

BLOCKS = sorted({*IMAGE, *TOKENS})
STEPS = st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(0, 99)), min_size=1, max_size=7)
STYLES = st.integers(0, 999)
QUICK = settings(max_examples=80, derandomize=True, database=None)


def partition(trace: Trace) -> set[frozenset[tuple[str, int, int]]]:
    """Every unit as the set of (tensor, axis, index) that it takes away."""
    found = set()
    for group in trace.groups:
        for k in range(len(group)):
            found.add(
                frozenset((m.tensor.partition("@")[0], m.axis, int(i)) for m in group.members for i in m.index[k])
            )
    return found


@QUICK
@given(STEPS, STYLES, st.sampled_from([0.0, 0.2, 0.6]))
def test_shrinking_changes_no_output(steps, style, share):
    net = with_zeros(sketch(steps, style), style, share)
    found = shrinkable(net)
    small, feed = slim(found.trace, found.trace.never_empty(found.removed)), feeds(net, style)
    for want, got in zip(run(net.model, feed), run(small, feed), strict=True):
        assert_allclose(got, want, atol=1e-4 * max(1.0, np.abs(want).max()))


@settings(max_examples=25, derandomize=True, database=None)
@given(STEPS, STYLES, st.sampled_from([{}, {"absorb": True}, {"assume_masked": True}, {"gather": True}]))
def test_the_verb_shrink_ends_as_it_should(steps, style, how):
    """With results that are the same, or with the one line that there is nothing to do."""
    net = with_zeros(sketch(steps, style), style, 0.6)
    try:
        outcome = str(shrink(net, RunConfig(bench_seconds=0, prove=False), **how).content["verify"])
    except (BadInput, VerifyFailed) as error:
        outcome = str(error)
    ends = ("'exact': True", "no channel is zero everywhere it matters", "every output is NaN or infinite")
    assert any(end in outcome for end in ends), outcome


@QUICK
@given(STEPS, STYLES)
def test_slim_is_mask(steps, style):
    found = exact(sketch(steps, style), plans=1)
    assert sum(map(len, found.groups)) == found.n_units


@QUICK
@given(STEPS, STYLES, st.sampled_from([None, "heads", "head-dims"]))
def test_slim_is_mask_with_inexact_removal(steps, style, prefer):
    found = exact(sketch(steps, style), plans=1, allow_inexact=True, prefer=prefer)
    assert not any("--allow-inexact" in pin.why for pin in found.pins)


@QUICK
@given(STEPS, st.integers(1, 99))
def test_nodes_that_do_nothing_change_no_unit(steps, noise):
    assert partition(trace(sketch(steps, noise=noise))) == partition(trace(sketch(steps)))


@settings(max_examples=40, derandomize=True, database=None)
@given(STEPS, STYLES, st.integers(0, 99))
def test_slim_is_mask_where_the_end_of_a_network_stands_in_branches(steps, style, cut):
    """Both branches compute the same, so that no more can go than without an If."""
    net = sketch(steps, style)
    found = exact(branched(net, cut), plans=1)
    assert found.n_units <= trace(net).n_units
