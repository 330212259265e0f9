"""Random networks of every family: slim equals mask, and nodes that do nothing change no group."""

from hypothesis import given, settings
from hypothesis import strategies as st

from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from tests.graph.nets import exact
from tests.graph.sketch import IMAGE, TOKENS, sketch

BLOCKS = sorted({*IMAGE, *TOKENS})
STEPS = st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(0, 99)), min_size=1, max_size=7)
STYLES = st.integers(0, 999)
QUICK = settings(max_examples=80, deadline=None, derandomize=True, database=None)


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
