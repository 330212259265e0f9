import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.feeds import random_inputs


def test_random_inputs_suit_their_types(text):
    model = text(
        "(float16[2,3] half, int64[50] ids, int32[50] flags, bool[50] mask) => (float16[2,3] y) { y = Relu(half) }"
    )
    shapes = {"half": (2, 3), "ids": (50,), "flags": (50,), "mask": (50,)}
    feed = random_inputs(model, shapes, seed=1, bounds={"ids": 7})
    assert {name: array.dtype.name for name, array in feed.items()} == {
        "half": "float16", "ids": "int64", "flags": "int32", "mask": "bool",
    }  # fmt: skip
    assert set(feed["ids"]) == set(range(7))
    assert set(feed["flags"]) == {0, 1}
    assert set(feed["mask"]) == {False, True}


def test_random_inputs_depend_on_the_seed_alone(net):
    model, shapes = net(8), {"x": (1, 3, 16, 16)}
    first, again, other = (random_inputs(m, shapes, s)["x"] for m, s in ((model, 0), (net(8), 0), (model, 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_input_without_a_shape_is_bad_input(net):
    with pytest.raises(BadInput, match="input x has no shape"):
        random_inputs(net(8), {})


def test_an_input_that_is_no_tensor_is_bad_input(text):
    model = text("(seq(float[2]) xs) => (int64 n) { n = SequenceLength(xs) }")
    with pytest.raises(BadInput, match="input xs is of type seq"):
        random_inputs(model, {"xs": (2,)})
