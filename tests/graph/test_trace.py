"""Whole graphs: dynamic sizes, ways to hold a weight, subgraphs, odd names, old opsets."""

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.graph.net import Net
from slimnet.graph.surgery import mask, slim
from slimnet.graph.trace import trace
from tests.networks.graphs import assert_same_at_other_sizes, draw, exact, net, pinned, units

# -- sizes that are computed -----------------------------------------------------------------------------------------

FLATTEN = """(float[N,3,H,4] x) => (y)
    <float[6,3,1,1] w, float[6,5] fc, int64 zero = {{0}}, int64 one = {{1}}, int64[1] k = {{0}}, int64[1] width, float[2,6,1,1] v>
    {{ h = Conv(x, w)
       p = GlobalAveragePool(h)
       s = Shape({of})
       n = Gather(s, zero)
       u = Unsqueeze(n, k)
       {rest}
       y = MatMul(f, fc) }}"""


@pytest.mark.parametrize(
    ("of", "rest"),
    [
        ("x", "t = Concat<axis=0>(u, width) f = Reshape(p, t)"),
        ("p", "t = Concat<axis=0>(u, width) f = Reshape(p, t)"),
        ("p", "c = Gather(s, one) cu = Unsqueeze(c, k) t = Concat<axis=0>(u, cu) f = Reshape(p, t)"),
        ("p", "m = Constant<value_ints=[-1]>() t = Concat<axis=0>(u, m) f = Reshape(p, t)"),
        ("p", "e = Constant<value_ints=[2]>() t = Slice(s, k, e) f = Reshape(p, t)"),
        ("h", "c = Gather(s, one) d = Mul(c, one) cu = Unsqueeze(d, k) t = Concat<axis=0>(u, cu) f = Reshape(p, t)"),
    ],
)
def test_a_reshape_target_computed_from_the_batch_stays_computed(of, rest):
    model = net(FLATTEN.format(of=of, rest=rest), width=6)
    assert units(exact(model)) == {"w:0 fc:0": 6}
    assert_same_at_other_sizes(model, N=1, H=3)
    assert_same_at_other_sizes(model, N=5, H=2)


def test_heads_with_a_dynamic_batch_and_length():
    model = net("""(float[N,T,4] x) => (y)
        <float[4,6] w, float[6,2] o, int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64[1] k = {0}, int64 heads = {2}>
        { h = MatMul(x, w)
          s = Shape(h)
          n = Gather(s, zero)
          t = Gather(s, one)
          c = Gather(s, two)
          d = Div(c, heads)
          nu = Unsqueeze(n, k)
          tu = Unsqueeze(t, k)
          cu = Unsqueeze(c, k)
          hu = Unsqueeze(heads, k)
          du = Unsqueeze(d, k)
          grid = Concat<axis=0>(nu, tu, hu, du)
          flat = Concat<axis=0>(nu, tu, cu)
          a = Reshape(h, grid)
          r = Relu(a)
          b = Reshape(r, flat)
          y = MatMul(b, o) }""")
    assert units(exact(model, prefer="heads")) == {"w:1x3 o:0x3": 2}
    assert units(exact(model, prefer="head-dims")) == {"w:1x2 o:0x2": 3}
    assert_same_at_other_sizes(model, N=3, T=7)


def test_a_width_that_depends_on_the_input_size_pins():
    """Flattened channels and image: the classifier's width is bound to the image, whatever the file calls dynamic."""
    model = net(
        """(float[2,3,H,H] x) => (float[2,H,I] y) <float[6,3,1,1] w, int64[1] two={2}, int64[1] three={3},
        int64[1] n = {2}, int64[1] c = {6}>
        { h = Conv(x, w)
          s = Shape(h)
          i = Slice(s, two, three)
          m = Mul(c, i)
          t = Concat<axis=0>(n, m, i)
          f = Reshape(h, t)
          y = Identity(f) }""",
        n=4,
    )
    found = exact(model)
    assert units(found) == {}
    assert pinned(found)["w:0"] == "its length is computed from a dynamic input size"


def test_expand_and_slice_with_dynamic_parts():
    model = net(
        """(float[N,3] x) => (y)
        <float[3,6] w, float[1,1,6] token, int64[1] k = {0}, int64[1] one = {1}, int64[1] minus = {-1}, int64 zero = {0}, float[6,2] v>
        { h = MatMul(x, w)
          a = Unsqueeze(h, one)
          s = Shape(x)
          n = Gather(s, k)
          t = Concat<axis=0>(n, minus_, minus_)
          e = Expand(token, t)
          c = Concat<axis=1>(e, a)
          p = Gather<axis=1>(c, zero)
          q = Slice(c, one, end, one)
          r = Squeeze(q, one)
          z = Add(p, r)
          y = MatMul(z, v) }""".replace("minus_, minus_", "one, one").replace(
            "q = Slice", "end = Constant<value_ints=[100]>() q = Slice"
        )
    )
    assert units(exact(model)) == {"w:1 token:2 v:0": 6}
    assert_same_at_other_sizes(model, N=5)


def test_a_split_of_sizes_computed_from_a_live_width():
    """chunk(2): size = C // 2 read off the shape; after the cut the halves differ."""
    model = net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,3,1] u, float[2,3,1] v, int64 one = {1}, int64 two = {2},
        int64[1] k = {0}, int64[1] zero = {0}, int64[1] channel = {1}>
        { h = Conv(x, w)
          s = Shape(h)
          c = Gather(s, one)
          d = Div(c, two)
          half = Unsqueeze(d, k)
          full = Unsqueeze(c, k)
          a = Slice(h, zero, half, channel)
          b = Slice(h, half, full, channel)
          p = Conv(a, u)
          q = Conv(b, v)
          y = Add(p, q) }""")
    assert units(exact(model)) == {"w:0 u:1": 3, "w:0 v:1": 3}
    assert_same_at_other_sizes(model, N=3)


@pytest.mark.parametrize(
    "reader",
    [
        "e = Expand(z, s)",
        "e = Tile(z, s)",
        "e = ConstantOfShape(s)",
        "n = ReduceProd(s) e = Expand(t, n)",
        "c = Gather(s, k) e = Range(zero, c, one)",
        "e = Identity(s)",
        "c = Shape<start=1>(h) e = Mul(c, c)",
    ],
)
def test_what_else_reads_a_live_width_keeps_seeing_the_dense_one(reader):
    """Nothing ties these to the channels but a number, which is written down beside the dynamic batch."""
    model = net(f"""(float[N,3] x) => (y, e) <float[3,6] w, float[6,2] v, float[1,1] z, float[1] t, int64 k = {{1}},
          int64 zero = {{0}}, int64 one = {{1}}>
        {{ h = MatMul(x, w)
           s = Shape(h)
           {reader}
           y = MatMul(h, v) }}""")
    assert units(exact(model)) == {"w:1 v:0": 6}
    assert_same_at_other_sizes(model, N=5)


def test_a_mean_over_channels_written_as_a_sum_is_divided_by_the_dense_width():
    model = net("""(float[N,3,4] x) => (y) <float[6,3,1] w, int64[1] one = {1}, int64[1] two = {2}>
        { h = Conv(x, w)
          r = Relu(h)
          s = Shape(h)
          c = Slice(s, one, two)
          f = Cast<to=1>(c)
          t = ReduceSum(r, one)
          y = Div(t, f) }""")
    assert units(exact(model)) == {"w:0": 6}


def test_a_constant_of_a_live_size():
    """zeros_like: a ConstantOfShape of Shape(h)."""
    model = net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6,1] v>
        { h = Conv(x, w)
          s = Shape(h)
          z = ConstantOfShape(s)
          m = Max(h, z)
          y = Conv(m, v) }""")
    assert units(exact(model)) == {"w:0 z:1 v:1": 6}
    assert_same_at_other_sizes(model, N=5)


def test_positions_from_a_range_over_a_dynamic_length():
    model = net(
        """(int64[N,T] ids) => (y) <float[11,6] words, float[9,6] places, float[6,2] v, int64 one = {1}, int64 zero = {0}>
        { e = Gather(words, ids)
          s = Shape(ids)
          t = Gather(s, one)
          r = Range(zero, t, one)
          p = Gather(places, r)
          h = Add(e, p)
          y = MatMul(h, v) }""",
        n=3,
    )
    assert units(exact(model)) == {"words:1 places:1 v:0": 6}
    assert_same_at_other_sizes(model, N=2, T=7)


# -- where a weight comes from ---------------------------------------------------------------------------------------


def test_weights_in_constant_nodes():
    values = "{" + ",".join(str(k / 10) for k in range(1, 13)) + "}"
    found = exact(
        net(f"""(float[N,3] x) => (y) <float[4,2] v>
        {{ w = Constant<value = float[3,4] {values}>()
           b = Constant<value = float[4] {{0.1,0.2,0.3,0.4}}>()
           h = Gemm(x, w, b)
           r = Relu(h)
           y = MatMul(r, v) }}""")
    )
    assert units(found) == {"w:1 b@h:2:0 v:0": 4}


def test_a_bias_given_as_a_list_of_floats():
    found = exact(
        net("""(float[N,3] x) => (y) <float[3,4] w, float[4,2] v>
        { b = Constant<value_floats=[0.1,0.2,0.3,0.4]>()
          h = Gemm(x, w, b)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:1 b@h:2:0 v:0": 4}


def test_one_constant_node_for_several_uses():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,4] w, float[4,4] u, float[4,2] v>
        { b = Constant<value = float[4] {0.1,0.2,0.3,0.4}>()
          h = Gemm(x, w, b)
          k = Gemm(h, u, b)
          y = MatMul(k, v) }""")
    )
    assert units(found) == {"w:1 b@h:2:0 u:0": 4, "u:1 b@k:2:0 v:0": 4}


def test_a_matrix_shared_by_two_layers_stays_shared():
    found = exact(
        net("""(float[N,4] x) => (y) <float[4,6] w, float[6,2] v>
        { a = MatMul(x, w)
          n = Neg(x)
          b = MatMul(n, w)
          m = Max(a, b)
          y = MatMul(m, v) }""")
    )
    assert units(found) == {"w:1 v:0": 6}


def test_a_tied_embedding_and_output():
    found = exact(
        net("""(int64[N,5] ids) => (y) <float[11,6] table>
        { e = Gather(table, ids)
          r = Relu(e)
          t = Transpose(table)
          y = MatMul(r, t) }""")
    )
    assert units(found) == {"table:1": 6}
    assert "table:0" in pinned(found)


def test_a_weight_that_is_also_an_output_is_pinned():
    found = exact(
        net("""(float[N,3] x) => (y, z) <float[3,4] w, float[4,2] v>
        { h = MatMul(x, w)
          z = Identity(w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"].startswith("is an output of the network, one of 2;")


def test_a_bias_that_is_also_an_output_stays_there():
    found = exact(
        net("""(float[N,3] x) => (y, b) <float[3,6] w, float[6] b, float[6,2] v>
        { h = Gemm(x, w, b)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {"w:1 b:0 v:0": 6}


def test_a_value_that_is_an_output_and_goes_on_is_pinned():
    found = exact(
        net("""(float[N,3] x) => (y, h) <float[3,4] w, float[4,2] v>
        { h = MatMul(x, w)
          y = MatMul(h, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"].startswith("is an output of the network, one of 2;")


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17, 20, 23])
def test_opsets(opset):
    drop = "Dropout(r)" if opset >= 12 else "Dropout<ratio=0.5>(r)"
    squeeze = "Squeeze(p, k)" if opset >= 13 else "Squeeze<axes=[2]>(p)"
    found = exact(
        net(
            f"""(float[N,3,4] x) => (y)
        <float[6,3,1] w, float[6] b, float[6] scale, float[6] bias, float[6] mean, float[6] var, float[6,2] fc,
         int64[1] k = {{2}}>
        {{ h = Conv(x, w, b)
           n = BatchNormalization(h, scale, bias, mean, var)
           r = Relu(n)
           d = {drop}
           p = GlobalAveragePool(d)
           f = {squeeze}
           y = MatMul(f, fc) }}""",
            opset=opset,
        )
    )
    assert units(found) == {"w:0 b:0 scale:0 bias:0 mean:0 var:0 fc:0": 6}


def test_half_precision():
    found = exact(
        net("""(float16[N,3,8,8] x) => (y) <float16[6,3,3,3] w, float16[6] b, float16[2,6,1,1] v>
        { h = Conv(x, w, b)
          r = Relu(h)
          y = Conv(r, v) }""")
    )
    assert units(found) == {"w:0 b:0 v:1": 6}


# -- what cannot be followed -----------------------------------------------------------------------------------------


def test_a_custom_operator_pins():
    model = net("""(float[2,3,4] x) => (float[2,2,4] y) <float[6,3,1] w, float[5,6,1] u, float[2,5,1] v>
        { h = Conv(x, w)
          k = Conv(h, u)
          z = own.Magic(k)
          y = Conv(z, v) }""")
    found = trace(model)
    assert units(found) == {"w:0 u:1": 6}
    assert pinned(found)["u:0"] == "has no rule (domain own)"
    removed = draw(found, np.random.default_rng(0))
    assert slim(found, removed).graph.initializers["w"].shape == (6 - removed.sum(), 3, 1)


def test_an_unknown_operator_of_the_standard_domain_pins():
    model = net(
        """(float[2,3,4] x) => (float[2,6,4] y) <float[6,3,1] w>
        { h = Conv(x, w)
          y = NoSuchOperator(h) }""",
        annotate=False,
    )
    assert pinned(trace(model))["w:0"] == "has no rule"


def test_channels_go_on_into_branches():
    """What only one branch puts out whole stays; what both read goes on."""
    found = exact(
        net("""(float[N,3,4] x, bool c) => (float[N,M,4] y) <float[6,3,1] w, float[5,3,1] u, float[2,6,1] v, float[5,5,1] t>
        { h = Conv(x, w)
          g = Conv(x, u)
          k = Conv(g, t)
          y = If (c) <
            then_branch = a () => (float[N,M,4] p) { p = Conv(h, v) },
            else_branch = b () => (float[N,M,4] q) { q = Relu(k) }
          > }""")
    )
    assert units(found) == {"w:0 v:1": 6, "u:0 t:1": 5}
    assert pinned(found)["v:0"] == "comes out of one branch of an If and not of the other"
    assert pinned(found)["t:0"] == "comes out of one branch of an If and not of the other"


def test_a_loop_pins():
    found = exact(
        net(
            """(float[2,3] x) => (float[2,6] y) <float[3,6] w, float[6,6] v, int64 times = {2}, bool go>
        { h = MatMul(x, w)
          y = Loop (times, go, h) <
            body = b (int64 i, bool c, float[2,6] s) => (bool d, float[2,6] n) {
              d = Identity(c)
              n = MatMul(s, v) }
          > }""",
            go=True,
        )
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "reads this axis as a whole"
    assert pinned(found)["v:1"] == "leaves the body of a loop"


def test_a_shape_read_by_a_subgraph_keeps_its_dense_value():
    """The channels that it counts go, since nothing in the subgraph depends on them but this number."""
    found = exact(
        net("""(float[N,3,4] x, bool c) => (float[N,2,4] y)
        <float[6,3,1] w, float[2,6,1] v, float[1] z, int64[1] one = {1}, int64[1] two = {2}>
        { h = Conv(x, w)
          k = Conv(h, v)
          s = Shape(h)
          n = Slice(s, one, two)
          e = If (c) <
            then_branch = a () => (float[6] p) { p = Expand(z, n) },
            else_branch = b () => (float[A,6,B] q) { q = Expand(z, s) }
          >
          m = ReduceSum<keepdims=0>(e)
          y = Mul(k, m) }""")
    )
    assert units(found) == {"w:0 v:1": 6}


def test_a_subgraph_inside_a_subgraph():
    found = exact(
        net("""(float[2,3,4] x, bool c) => (float[2,6,4] y) <float[6,3,1] w>
        { h = Conv(x, w)
          y = If (c) <
            then_branch = a () => (float[2,6,4] p) {
              p = If (c) <
                then_branch = aa () => (float[2,6,4] pp) { pp = Relu(h) },
                else_branch = ab () => (float[2,6,4] pq) { pq = Neg(h) }
              > },
            else_branch = b () => (float[2,6,4] q) { q = Identity(h) }
          > }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:0"] == "is an output of the network"


def test_a_bias_captured_by_a_subgraph_and_used_outside():
    found = exact(
        net("""(float[2,3] x, bool c) => (float[2,2] y) <float[3,6] w, float[6] b, float[6,2] v>
        { h = Gemm(x, w, b)
          z = If (c) <
            then_branch = t () => (float[6] p) { p = Identity(b) },
            else_branch = e () => (float[6] q) { q = Neg(b) }
          >
          k = Gemm(x, w, z)
          m = Mul(h, k)
          y = MatMul(m, v) }""")
    )
    assert units(found) == {"w:1 b@h:2:0 b@p:0:0 b@q:0:0 v:0": 6}


# -- names -----------------------------------------------------------------------------------------------------------


def named(**names: str) -> Net:
    model = net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[6] b, float[6,6,1] u, float[2,6,1] v>
        { h = Conv(x, w, b)
          r = Relu(h)
          k = Conv(r, u, b)
          y = Conv(k, v) }""")
    for node in model.model.graph:
        node.name = names.get(node.outputs[0].name)
    return model


@pytest.mark.parametrize(
    "names", [{}, {"h": "same", "k": "same", "r": "same"}, {"h": "", "k": ""}, {"h": "r", "k": "b"}]
)
def test_nodes_without_names_and_with_equal_ones(names):
    """onnxruntime refuses equal names, but they are no reason to mix up what belongs to which node."""
    model = named(**names)
    found = trace(model) if "same" in names.values() else exact(model)
    assert sorted(units(found).values()) == [6, 6]
    assert all(len(group.members) == 3 for group in found.groups)
    assert len(found.params()) == len({m.tensor for g in found.groups for m in g.members})


def test_a_plan_survives_equal_names():
    found = trace(named(h="same", k="same"))
    removed = draw(found, np.random.default_rng(1))
    assert np.array_equal(found.removed(found.plan(removed)), removed)


def test_names_that_surgery_would_like_to_use():
    model = net("""(float[N,5,3] kept) => (position) <float[3,6] kept_mask, float[6] scale, float[6,2] v, int64[1] e = {4},
          int64[1] s = {0}, int64[1] k = {2}, int64[1] t = {2}, float[2,2] o>
        { h = MatMul(kept, kept_mask)
          h_gather = LayerNormalization(h, scale)
          h_gather_gather = MatMul(h_gather, v)
          h_slice = Slice(h, s, e, k, t)
          g = MatMul(h_slice, o)
          position = Add(g, h_gather_gather) }""")
    for node in model.model.graph:
        node.name = f"{node.outputs[0].name}_"
    assert units(exact(model, allow_inexact=True)) == {"kept_mask:1 scale:0 v:0": 4, "kept_mask:1 scale:0 v:0 o:0": 2}


def test_optional_inputs_left_out():
    found = exact(
        net("""(float[5,2,3] x) => (y) <float[1,16,3] w, float[1,16,4] r, float[1,2,4] h0, float[4,2] v, int64[1] k = {1}>
        { s = LSTM<hidden_size=4>(x, w, r, , , h0)
          c = Clip(s, , )
          f = Squeeze(c, k)
          y = MatMul(f, v) }""")
    )
    assert sum(units(found).values()) == 4


def test_an_initializer_that_is_also_an_input():
    """The custom of IR version 3; such a value is a default that the caller may replace."""
    model = net("""(float[N,3,4] x) => (y) <float[6,3,1] w, float[2,6,1] v>
        { h = Conv(x, w)
          y = Conv(h, v) }""")
    model.model.graph.inputs.append(model.model.graph.initializers["w"])
    found = trace(model)
    assert units(found) == {"w:0 v:1": 6}


# -- keeping everything ----------------------------------------------------------------------------------------------


def test_keeping_everything_changes_nothing():
    model = net("""(float[N,3,4,4] x) => (y)
        <float[6,3,1,1] w, float[6] scale, float[6] b, float[6] mean, float[6] var, float[96,2] fc, int64[1] n = {0}, int64[1] rest = {96}>
        { h = Conv(x, w)
          a = BatchNormalization(h, scale, b, mean, var)
          s = Shape(a)
          e = Constant<value_ints=[1]>()
          batch = Slice(s, n, e)
          t = Concat<axis=0>(batch, rest)
          f = Reshape(a, t)
          y = MatMul(f, fc) }""")
    found = exact(model)
    assert found.n_units == 6
    nothing = np.zeros(found.n_units, bool)
    before = ir.to_proto(model.model).SerializeToString(deterministic=True)
    assert ir.to_proto(slim(found, nothing)).SerializeToString(deterministic=True) == before
    assert ir.to_proto(mask(found, nothing)).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("size", ["N", "2"])
def test_what_a_model_says_of_itself_stays(size):
    """Also where nodes are left out, since the sizes that they compute are known."""
    dense = net(f"""(float[{size},3,4,4] x) => (y) <float[6,3,1,1] w, float[2,96] fc, int64[1] k = {{0}}>
        {{ h = Conv(x, w)
           s = Shape(h)
           n = Gather(s, k)
           rest = Constant<value_ints=[-1]>()
           t = Concat<axis=0>(n, rest)
           f = Reshape(h, t)
           y = Gemm<transB=1>(f, fc) }}""")
    model = dense.model
    model.producer_name, model.producer_version, model.domain, model.model_version = "pytest", "9", "org.example", 3
    model.doc_string, model.graph.doc_string = "a network", "its graph"
    model.metadata_props["licence"] = model.graph.metadata_props["source"] = "none"
    found = exact(dense)
    for cut in (slim(found, np.arange(6) < 3), mask(found, np.arange(6) < 3)):
        for name in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
            assert getattr(cut, name) == getattr(model, name)
        assert (cut.graph.name, cut.graph.doc_string) == (model.graph.name, "its graph")
        assert cut.metadata_props["licence"] == cut.graph.metadata_props["source"] == "none"
        assert cut.opset_imports == model.opset_imports


def test_the_dense_graph_is_never_edited():
    model = net(FLATTEN.format(of="p", rest="t = Concat<axis=0>(u, width) f = Reshape(p, t)"), width=6)
    before = ir.to_proto(model.model).SerializeToString(deterministic=True)
    exact(model)
    assert ir.to_proto(model.model).SerializeToString(deterministic=True) == before


def test_large_tensors_are_cut_alike_block_by_block(monkeypatch):
    found = trace(
        net("""(float[N,3,8,8] x) => (y)
        <float[10,3,3,3] w, float[12,10,3,3] v, float[2,12,6,6] u>
        { h = Conv<pads=[1,1,1,1]>(x, w) r = Relu(h) c = Conv(r, v) p = Relu(c) y = Conv(p, u) }""")
    )
    removed = np.arange(found.n_units) % 3 == 1
    whole = {name: value.const_value.numpy() for name, value in slim(found, removed).graph.initializers.items()}
    monkeypatch.setattr("slimnet.graph.surgery._LARGE", 50)
    for block in (1, 300, 10**6):
        monkeypatch.setattr("slimnet.graph.surgery._BLOCK", block)
        for name, value in slim(found, removed).graph.initializers.items():
            assert np.array_equal(value.const_value.numpy(), whole[name])


def test_the_hash_is_of_the_topology_and_not_of_the_weights():
    text = "(float[N,3] x) => (y) <float[3,6] w, float[6,2] v> { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
    hashes = [trace(net(text, seed=seed)).model_hash for seed in (0, 1)]
    assert hashes[0] == hashes[1]
    assert trace(net(text.replace("Relu", "Neg"))).model_hash != hashes[0]
    assert trace(net(text.replace("6", "7"))).model_hash != hashes[0]


# -- outputs ---------------------------------------------------------------------------------------------------------

TWO_LAYERS = """(float[1,8] x) => ({outputs}) <float[8,16] w, float[16,12] v, float[12,4] u>
    {{ a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, u) {more} }}"""


def test_what_is_in_a_sequence_that_is_an_output_stays():
    model = net(TWO_LAYERS.format(outputs="y, both", more="both = SequenceConstruct(y, d)"))
    found = trace(model)
    assert units(found) == {"w:1 v:0": 16}
    assert "is an output of the network" in pinned(found)["v:1"]


def test_a_constant_of_strings_is_no_obstacle():
    more = 'label = Constant<value_strings=["cat", "dog"]>()'
    assert units(trace(net(TWO_LAYERS.format(outputs="y, label", more=more)))) == {"w:1 v:0": 16, "v:1 u:0": 12}


@pytest.mark.parametrize("shape", [(), (1,), (1, 5), (2, 3, 4)])
@pytest.mark.parametrize("name", ["y", "c"])
def test_a_shape_that_the_file_states_wrongly_is_not_believed(name, shape):
    """onnxruntime only warns of it; the slim network leaves open what was wrong."""
    model = net(TWO_LAYERS.format(outputs="y", more=""))
    value = next(v for node in model.model.graph for v in node.outputs if v.name == name)
    value.shape = ir.Shape(shape)
    found = exact(model)
    assert units(found) == {"w:1 v:0": 16, "v:1 u:0": 12}
    small = slim(found, np.arange(found.n_units) % 2 == 0)
    stated = next(v.shape for node in small.graph for v in node.outputs if v.name == name)
    rank = [(1, 4), (1, 6)][name == "c"]
    assert len(stated) == 2
    assert all(not isinstance(dim, int) or dim == size for dim, size in zip(stated, rank, strict=True))
