"""The proof that slim equals mask, and the proof that it could have failed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import SlimnetError, VerifyFailed
from slimnet.graph.net import Net
from slimnet.graph.surgery import slim
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.runtime.feeds import index_bounds
from slimnet.verification.verify import TOLERANCE, TOLERANCE_HALF, verify
from tests.networks.backends import Simulated, elements
from tests.networks.graphs import feeds, net

MLP = """(float[4,6] x) => (y) <float[6,8] w, float[8] b, float[8,5] v, float[5,3] u>
    { a = MatMul(x, w) c = Add(a, b) d = Relu(c) e = MatMul(d, v) f = Tanh(e) y = MatMul(f, u) }"""


STORED_AS_BFLOAT16 = """(float[4,6] x) => (y) <bfloat16[6,8] w, bfloat16[8,5] v, float[5] bias>
    { wf = Cast<to=1>(w) a = MatMul(x, wf) b = Relu(a) vf = Cast<to=1>(v) c = MatMul(b, vf) y = Add(c, bias) }"""


def halved(trace: Trace) -> np.ndarray:
    """Every other unit removed."""
    return np.arange(trace.n_units) % 2 == 0


#: Beside the numbers the name of the output that is positive, if one is.
NAMED = """(float[4,6] x) => (y, string[4] name) <float[6,8] w, float[8,1] v>
    { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) axis = Constant<value_ints=[1]>() flat = Squeeze(y, axis)
      zero = Constant<value_float=0.0>() positive = Greater(flat, zero) name = Cast<to=8>(positive) }"""


def changed(model: ir.Model, name: str, by: float) -> ir.Model:
    """A model with one element of one weight moved."""
    value = model.graph.initializers[name]
    array = value.const_value.numpy().copy()
    array.flat[0] += by
    value.const_value = ir.Tensor(array, name=name)
    return model


def checked(net: Net, **options: object):
    found = trace(net)
    return verify(found, halved(found), **options)


def test_slim_is_exact_and_every_group_is_proven():
    result = checked(net(MLP))
    assert result.exact
    assert result.max_rel_error < 1e-6
    assert result.tolerance == TOLERANCE
    assert result.proven == ["w", "v"]
    assert result.inside == result.unproven == []
    assert result.inputs == ["normal", "0 to 1", "0 to 255"]
    assert result.runs == 5


def test_strings_are_compared_too():
    assert checked(net(NAMED)).exact
    found = trace(net(NAMED))
    small = slim(found, halved(found))
    next(node for node in small.graph if node.op_type == "Greater").op_type = "Less"
    with pytest.raises(VerifyFailed, match=r"differs from the masked one .* at name"):
        verify(found, halved(found), small)


def test_what_is_in_a_sequence_is_compared():
    two = MLP.replace("=> (y)", "=> (both)").replace("}", "both = SequenceConstruct(f, y) }")
    found = trace(net(two))
    assert verify(found, halved(found)).exact
    small = changed(slim(found, halved(found)), "u", 1.0)
    with pytest.raises(VerifyFailed, match="differs from the masked one"):
        verify(found, halved(found), small)


def test_without_proof_nothing_is_called_proven():
    result = checked(net(MLP), prove=False)
    assert result.exact
    assert result.proven == result.unproven == []


@pytest.mark.parametrize(("by", "differs"), [(1e-7, False), (1e-2, True)])
def test_the_tolerance_is_relative_to_the_largest_output(by, differs):
    found = trace(net(MLP))
    model = changed(slim(found, halved(found)), "u", by)
    if differs:
        with pytest.raises(
            VerifyFailed, match=r"net: the slim network differs from the masked one by .*tolerance 1e-04"
        ):
            verify(found, halved(found), model)
    else:
        assert verify(found, halved(found), model).exact


@dataclass(frozen=True)
class Moved(Simulated):
    """A runtime that computes something else, by this fraction of it, where it may not optimise."""

    by: float = 0.0

    def session(self, model: ir.Model, optimise: bool = True):
        made = super().session(model, optimise)
        if not optimise:
            run = made.run
            made.run = lambda feed: [(1 + self.by) * output for output in run(feed)]
        return made


@pytest.mark.parametrize(
    ("by", "said"), [(5e-6, "Please report the model"), (2e-5, "Rounding alone moves this network by 2e-05")]
)
def test_a_failure_says_whether_rounding_alone_could_have_been_it(by, said):
    """From a tenth of the tolerance on that rounding moves the masked network by, it is named as the likely cause."""
    found = trace(net(MLP))
    model = changed(slim(found, halved(found)), "u", 1e-2)
    with pytest.raises(VerifyFailed, match=said):
        verify(found, halved(found), model, backend=Moved(by=by))


def test_half_precision_has_a_tolerance_of_its_own():
    half = net(MLP.replace("float[", "float16["))
    found = trace(half)
    assert verify(found, halved(found)).tolerance == TOLERANCE_HALF
    wide = changed(slim(found, halved(found)), "u", 0.5)
    with pytest.raises(VerifyFailed, match="tolerance 1e-02"):
        verify(found, halved(found), wide)


def test_what_is_only_stored_in_bfloat16_is_computed_in_single_precision():
    found = trace(net(STORED_AS_BFLOAT16))
    result = verify(found, halved(found))
    assert result.tolerance == TOLERANCE
    assert result.proven == ["w"]
    with pytest.raises(VerifyFailed, match="tolerance 1e-04"):
        verify(found, halved(found), changed(slim(found, halved(found)), "bias", 3e-3))


def test_what_is_computed_in_bfloat16_has_the_tolerance_of_half_precision():
    text = MLP.replace("a = MatMul(x, w)", "h = Cast<to=16>(x) o = Cast<to=1>(h) a = MatMul(o, w)")
    found = trace(net(text))
    assert verify(found, halved(found)).tolerance == TOLERANCE_HALF


def test_a_half_precision_number_that_nothing_reads_loosens_nothing():
    text = MLP.replace("<float[6,8] w", "<float16[2] stray, float[6,8] w")
    assert checked(net(text)).tolerance == TOLERANCE


def test_a_slim_network_that_gives_nan_fails():
    found = trace(net(MLP))
    with pytest.raises(VerifyFailed, match="by inf"):
        verify(found, halved(found), changed(slim(found, halved(found)), "u", np.nan))


def test_values_that_are_infinite_in_both_do_not_matter():
    """Attention masks reach the outputs of some networks as -inf."""
    text = """(float[4,6] x) => (y) <float[6,8] w, float[8,5] v, float[1,5] mask>
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) y = Add(c, mask) }"""
    result = checked(net(text, mask=[[0, 0, -np.inf, 0, -np.inf]]))
    assert result.exact
    assert result.proven == ["w"]


def test_a_network_of_which_every_output_is_nan_proves_nothing():
    with pytest.raises(VerifyFailed, match="every output is NaN or infinite"):
        checked(net(MLP, u=np.nan))


def test_one_output_may_have_no_finite_value_if_another_has():
    text = """(float[4,6] x) => (y, z) <float[6,8] w, float[8,5] v>
        { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) o = Sub(y, y) z = Div(o, o) }"""
    assert checked(net(text)).exact


def test_another_number_of_outputs_fails():
    found = trace(net(MLP))
    model = slim(found, halved(found))
    model.graph.outputs.append(next(v for node in model.graph for v in node.outputs if v.name == "f"))
    with pytest.raises(VerifyFailed, match="by inf"):
        verify(found, halved(found), model)


def test_another_type_fails():
    found = trace(net(MLP))
    model = slim(found, halved(found))
    cast = ir.node("Cast", [model.graph.outputs[0]], {"to": int(ir.DataType.DOUBLE)})
    cast.outputs[0].name, cast.outputs[0].dtype = "wide", ir.DataType.DOUBLE
    model.graph.append(cast)
    model.graph.outputs[:] = cast.outputs
    with pytest.raises(VerifyFailed, match=r"at y \(float64 instead of float32\)"):
        verify(found, halved(found), model)


def test_another_shape_fails():
    found = trace(net(MLP))
    other = trace(net(MLP.replace("float[5,3] u", "float[5,4] u")))
    with pytest.raises(VerifyFailed, match="by inf"):
        verify(found, halved(found), slim(other, halved(other)))


def test_a_slim_network_that_does_not_run_fails():
    found = trace(net(MLP))
    model = slim(found, halved(found))
    value = model.graph.initializers["u"]
    value.const_value = ir.Tensor(np.zeros((9, 3), np.float32), name="u")
    value.shape = None
    for node in model.graph:
        for output in node.outputs:
            output.shape = None
    with pytest.raises(SlimnetError, match=r"cannot load it|does not run"):
        verify(found, halved(found), model)


# -- what cannot be shown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zero", "inside", "perturbed"), [("u", ["w"], ["v"]), ("v", [], ["w", "v"])])
def test_a_group_that_is_read_with_zeros_is_proven_with_other_weights(zero, inside, perturbed):
    """Equality of outputs that are zero whatever happens proves nothing."""
    result = checked(net(MLP, **{zero: 0.0}))
    assert result.exact
    assert (result.proven, result.inside, result.perturbed) == (["w", "v"], inside, perturbed)


def test_a_group_that_reaches_nothing_is_unproven():
    text = """(float[4,6] x) => (y) <float[6,8] w, float[6,8] v, float[8,3] u>
        { a = MatMul(x, w) b = Relu(a) c = Shape(b) d = MatMul(x, v) e = ConstantOfShape(c) f = Mul(e, b)
          g = Relu(d) h = Add(f, g) y = MatMul(h, u) }"""
    assert checked(net(text)).unproven == []
    text = """(float[4,6] x) => (y) <float[6,8] w, float[6,8] v, float[8,3] u, float zero = {0}>
        { a = MatMul(x, w) b = Mul(a, zero) d = MatMul(x, v) e = Relu(d) y = MatMul(e, u) z = MatMul(b, u) }"""
    assert checked(net(text)).unproven == []


def test_a_branch_that_ends_in_zero_is_proven_where_it_is_read():
    text = """(float[4,6] x) => (y) <float[6,8] w, float[8,5] v, float[6,8] s, float[8,5] t, float zero = {0}>
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = MatMul(x, s) e = Relu(d) f = MatMul(e, t)
          g = Mul(f, zero) y = Add(c, g) }"""
    result = checked(net(text))
    assert (result.proven, result.inside) == (["w", "s"], ["s"])


def test_a_unit_that_happens_to_be_dead_is_not_the_last_word():
    """Another kept unit of the group is tried: the heaviest one is behind a Relu that never opens."""
    bias = np.zeros(8, np.float32)
    bias[1] = -1e6
    w = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    w[:, 1] *= 100
    assert checked(net(MLP, w=w, b=bias)).proven == ["w", "v"]


# -- inputs ----------------------------------------------------------------------------------------------------------

TABLE = """(int64[2,5] ids, int64[2,5] kinds) => (y) <float[{rows},8] words, float[3,8] types, float[8,4] v>
    {{ a = Gather(words, ids) k = Cast<to=7>(kinds) b = Gather(types, k)
       c = Add(a, b) d = Relu(c) y = MatMul(d, v) }}"""


@pytest.mark.parametrize("rows", [2, 50])
def test_integer_inputs_stay_below_the_rows_of_their_table(rows):
    found = trace(net(TABLE.format(rows=rows)))
    assert index_bounds(found) == {"ids": rows, "kinds": 3}
    assert verify(found, halved(found)).exact


def test_the_smallest_table_counts():
    text = """(int64[2,5] ids) => (y) <float[9,8] words, float[4,8] few, float[8,4] v>
        { a = Gather(words, ids) b = Gather(few, ids) c = Add(a, b) d = Relu(c) y = MatMul(d, v) }"""
    assert index_bounds(trace(net(text))) == {"ids": 4}


def test_real_inputs_are_used():
    """Whatever is given is run: inputs of zeros show less than random ones."""
    dense = net(MLP, b=0.0)
    zeros = {name: np.zeros_like(array) for name, array in feeds(dense).items()}
    found = trace(dense)
    result = verify(found, halved(found), inputs=[zeros, zeros], runs=0)
    assert (result.runs, result.inputs) == (2, ["given"])
    assert result.perturbed == ["w", "v"]


def test_random_inputs_follow_the_real_ones():
    dense = net(MLP, b=0.0)
    zeros = {name: np.zeros_like(array) for name, array in feeds(dense).items()}
    found = trace(dense)
    result = verify(found, halved(found), inputs=[zeros])
    assert result.inputs == ["given", "normal", "0 to 1", "0 to 255"]
    assert result.proven == ["w", "v"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_every_input_is_compared(order):
    """A difference that only one of the inputs shows is found, whichever it is."""
    dense = net(MLP, b=0.0)
    given = feeds(dense), {name: np.zeros_like(array) for name, array in feeds(dense).items()}
    found = trace(dense)
    wrong = changed(slim(found, halved(found)), "u", 0.5)  # zeros come out as zeros all the same
    with pytest.raises(VerifyFailed, match=r"differs from the masked one .* for inputs given"):
        verify(found, halved(found), wrong, [given[k] for k in order], runs=0)
    assert verify(found, halved(found), wrong, [given[1]], runs=0, prove=False).exact


# -- distance to the original ----------------------------------------------------------------------------------------


def test_distance_to_the_original_is_measured():
    dense = net(MLP)
    found = trace(dense)
    result = verify(found, halved(found), original=dense.model)
    assert result.dense_error is not None
    assert result.dense_error > 1e-2


def test_what_must_not_change_must_not_change():
    dense = net(MLP)
    found = trace(dense)
    with pytest.raises(VerifyFailed, match="removing what is zero changed the outputs"):
        verify(found, halved(found), original=dense.model, unchanged=True)


def test_inexact_removal_reports_the_distance_to_the_plain_mask():
    text = """(float[4,6] x) => (y) <float[6,8] w, float[8] scale, float[8] shift, float[8,5] v>
        { a = MatMul(x, w) b = LayerNormalization(a, scale, shift) y = MatMul(b, v) }"""
    found = trace(net(text), allow_inexact=True)
    result = verify(found, halved(found))
    assert result.exact
    assert result.plain_mask_error is not None
    assert result.plain_mask_error > 1e-2
    assert checked(net(MLP)).plain_mask_error is None


def test_progress_reaches_the_end():
    seen: list[float] = []
    checked(net(MLP), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1


class Unsettled(Simulated):
    """Optimised networks of fewer weights than the dense one has compute something else for large inputs: a tie goes
    the other way."""

    def session(self, model, optimise=True):
        made = super().session(model, optimise)
        run = made.run
        if optimise and elements(list(made.model.graph.initializers.values())) < 100:
            made.run = lambda feed: [y + 0.01 * np.abs(y).max() * (np.abs(feed["x"]).max() > 100) for y in run(feed)]
        return made


def test_what_only_an_optimised_network_shows_is_rounding():
    found = trace(net(MLP))
    result = verify(found, halved(found), backend=Unsettled())
    assert result.exact
    assert result.rounding == pytest.approx(result.max_rel_error)
    assert result.rounding > 10 * TOLERANCE
    assert result.tolerance > result.max_rel_error
    wrong = changed(slim(found, halved(found)), "v", 0.1)
    with pytest.raises(VerifyFailed, match="differs from the masked one"):
        verify(found, halved(found), wrong, backend=Unsettled())


class Tied(Simulated):
    """One output of a network is a tie: optimised networks with all weights take one side, others the other."""

    def __init__(self, output):
        super().__init__()
        object.__setattr__(self, "output", output)

    def session(self, model, optimise=True):
        made = super().session(model, optimise)
        run, side = made.run, 1 if optimise and elements(list(made.model.graph.initializers.values())) > 60 else -1
        made.run = lambda feed: [y * (side if k == self.output else 1) for k, y in enumerate(run(feed))]
        return made


def test_what_rounding_decides_is_not_compared_and_named():
    text = "(float[4,6] x) => (z, y) <float[6,8] w, float[8,5] v> {a = MatMul(x, w) z = MatMul(a, v) y = Neg(z)}"
    found = trace(net(text))
    result = verify(found, halved(found), backend=Tied(1))
    assert result.exact
    assert result.unsettled == ["y"]
    with pytest.raises(VerifyFailed, match="at z"):
        verify(found, halved(found), changed(slim(found, halved(found)), "v", 1.0), backend=Tied(1))


def test_where_rounding_decides_everything_nothing_is_proven():
    found = trace(net("(float[4,6] x) => (y) <float[6,8] w, float[8,5] v> {a = MatMul(x, w) y = MatMul(a, v)}"))
    result = verify(found, halved(found), backend=Tied(0))
    assert (result.unproven, result.unsettled) == (["w"], [])
    assert result.rounding > 1


class Wavering(Simulated):
    """All sessions of a network with all its weights, but the first one, are off by a thousandth: that is rounding."""

    def session(self, model, optimise=True):
        made = super().session(model, optimise)
        run = made.run
        if elements(list(made.model.graph.initializers.values())) > 60:
            if "whole" in (what for what, *_ in self.log):
                made.run = lambda feed: [1.001 * y for y in run(feed)]
            self.note("whole")
        return made


def test_what_shrinking_changes_may_be_rounding():
    text = "(float[4,6] x) => (y) <float[6,8] w, float[8,5] v> {a = MatMul(x, w) y = MatMul(a, v)}"
    w = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    w[:, ::2] = 0
    found = trace(net(text, w=w))
    result = verify(found, halved(found), original=found.net.model, unchanged=True, backend=Wavering(), prove=False)
    assert result.dense_error == pytest.approx(1e-3, rel=0.01)
    assert result.rounding >= result.dense_error
    other = changed(found.net.model.clone(), "w", 5.0)
    with pytest.raises(VerifyFailed, match="removing what is zero changed"):
        verify(found, halved(found), original=other, unchanged=True, backend=Wavering(), prove=False)
