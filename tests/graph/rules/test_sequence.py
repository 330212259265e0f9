"""Sequences of tensors."""

import pytest

from tests.networks.graphs import exact, net, pinned, units


@pytest.mark.parametrize(("sizes", "first", "second"), [("int64 sizes = {3}", 3, 3), ("int64[2] sizes = {2, 4}", 2, 4)])
def test_split_and_pick(sizes, first, second):
    found = exact(
        net(f"""(float[N,3,4] x) => (float[N,2,4] y) <float[6,3,1] w, float[2,{first},1] u, float[2,{second},1] v,
          {sizes}, int64 zero = {{0}}, int64 last = {{-1}}>
        {{ h = Conv(x, w)
           s = SplitToSequence<axis=1>(h, sizes)
           a = SequenceAt(s, zero)
           b = SequenceAt(s, last)
           c = Conv(a, u)
           d = Conv(b, v)
           y = Add(c, d) }}""")
    )
    assert units(found) == ({"w:0 u:1": first, "w:0 v:1": second} if first != second else {"w:0 u:1": 3, "w:0 v:1": 3})


def test_construct_and_concat():
    found = exact(
        net("""(float[N,3,4] x) => (float[N,2,4] y) <float[6,3,1] a, float[4,3,1] b, float[2,10,1] v>
        { p = Conv(x, a)
          q = Conv(x, b)
          s = SequenceConstruct(p, q)
          c = ConcatFromSequence<axis=1>(s)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0 v:1": 6, "b:0 v:1": 4}


def test_concat_of_a_sequence_along_another_axis():
    found = exact(
        net("""(float[N,3,4] x) => (float[N,2,8] y) <float[6,3,1] a, float[6,3,1] b, float[2,6,1] v>
        { p = Conv(x, a)
          q = Conv(x, b)
          s = SequenceConstruct(p, q)
          c = ConcatFromSequence<axis=-1>(s)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0 b:0 v:1": 6}


def test_a_stacked_sequence_pins():
    found = exact(
        net("""(float[N,3,4] x) => (float[N,2,6,4] y) <float[6,3,1] a, float[6,3,1] b>
        { p = Conv(x, a)
          q = Conv(x, b)
          s = SequenceConstruct(p, q)
          y = ConcatFromSequence<axis=1, new_axis=1>(s) }""")
    )
    assert units(found) == {}
    assert pinned(found)["a:0"] == "the sequence is not known, or stacked"


def test_a_split_into_single_slices_pins():
    found = exact(
        net("""(float[N,3,4] x) => (float[N,4] y) <float[6,3,1] w, int64 two = {2}>
        { h = Conv(x, w)
          s = SplitToSequence<axis=1, keepdims=0>(h)
          y = SequenceAt(s, two) }""")
    )
    assert units(found) == {}
    assert "its sizes are not given" in pinned(found)["w:0"]


def test_an_operator_on_a_sequence_without_a_rule_pins():
    found = exact(
        net("""(float[N,3,4] x) => (float[N,6,4] y) <float[6,3,1] a, float[6,3,1] b, int64 one = {1}>
        { p = Conv(x, a)
          q = Conv(x, b)
          s = SequenceConstruct(p, q)
          t = SequenceErase(s, one)
          zero = Constant<value_int=0>()
          y = SequenceAt(t, zero) }""")
    )
    assert units(found) == {}
    assert pinned(found)["b:0"] == "has no rule"


def test_a_sequence_through_identity():
    found = exact(
        net("""(float[N,3,4] x) => (float[N,2,4] y) <float[6,3,1] a, float[4,3,1] b, float[2,4,1] v, int64 one = {1}>
        { p = Conv(x, a)
          q = Conv(x, b)
          s = SequenceConstruct(p, q)
          t = Identity(s)
          c = SequenceAt(t, one)
          y = Conv(c, v) }""")
    )
    assert units(found) == {"a:0": 6, "b:0 v:1": 4}
