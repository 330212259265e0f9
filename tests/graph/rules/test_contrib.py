"""ONNX Runtime's own operators, as its optimiser and some exporters write them."""

import onnx_ir as ir
import onnxruntime as ort
import pytest

from slimnet.graph.net import Net
from slimnet.graph.trace import trace
from tests.networks.graphs import exact, feeds, net, pinned, run, units

RUNTIME = tuple(map(int, ort.__version__.split(".")[:2]))


def conv(body: str, weights: str = "", width: int = 6) -> str:
    """A convolution, something on its output h, and another convolution on the result m."""
    return f"""(float[2,3,4,4] x) => (float[2,2,4,4] y) <float[6,3,1,1] w, float[2,{width},1,1] v{weights}>
        {{ h = Conv(x, w)
           {body}
           y = Conv(m, v) }}"""


def tokens(body: str, weights: str = "") -> str:
    """A projection h of tokens x, something on it, and a projection of the result m."""
    return f"""(float[2,5,4] x) => (float[2,5,3] y) <float[4,6] w, float[6,3] o{weights}>
        {{ h = MatMul(x, w)
           {body}
           y = MatMul(m, o) }}"""


@pytest.mark.parametrize(
    "body",
    [
        "m = com.microsoft.Gelu(h)",
        "m = com.microsoft.QuickGelu<alpha=1.7>(h)",
        "m = com.microsoft.FastGelu(h)",
    ],
)
def test_activations_pass(body):
    found = exact(net(tokens(body)))
    assert units(found) == {"w:1 o:0": 6}


@pytest.mark.parametrize("body", ["m = com.microsoft.BiasGelu(h, b)", "m = com.microsoft.FastGelu(h, b)"])
def test_a_fused_bias_goes_along(body):
    found = exact(net(tokens(body, ", float[6] b")))
    assert units(found) == {"w:1 b:0 o:0": 6}


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "Sigmoid", "LeakyRelu"])
def test_fused_conv(activation):
    parameters = ", activation_params=[0.1]" if activation == "LeakyRelu" else ""
    body = f'm = com.microsoft.FusedConv<activation="{activation}"{parameters}, pads=[1,1,1,1]>(h, u, b)'
    found = exact(net(conv(body, ", float[6,6,3,3] u, float[6] b")))
    assert units(found) == {"w:0 u:1": 6, "u:0 b:0 v:1": 6}


def test_a_fused_sum_unifies():
    body = 'm = com.microsoft.FusedConv<activation="Relu", kernel_shape=[1,1]>(x, u, b, h)'
    found = exact(net(conv(body, ", float[6,3,1,1] u, float[6] b")))
    assert units(found) == {"w:0 u:0 b:0 v:1": 6}


def test_a_fused_sigmoid_is_not_zero_at_zero():
    text = """(float[2,3,4,4] x) => (float[2,1,4,4] y) <float[6,3,1,1] w, int64[1] one = {1}>
        { h = com.microsoft.FusedConv<activation="Sigmoid">(x, w)
          y = ReduceSum(h, one) }"""
    assert pinned(exact(net(text)))["w:0"] == "is summed over although it does not become zero"


@pytest.mark.parametrize(
    "window",
    ["pads=[1,0,1,2], strides=[2,3], dilations=[1,2]", 'auto_pad="SAME_UPPER", strides=[2,2]', 'auto_pad="VALID"'],
)
def test_the_shape_of_a_fused_conv_is_that_of_a_conv(window):
    """The standard's inference does not know the operator, and a file need not state its shape."""
    text = f"""(float[1,3,9,8] x) => (float[1,5,a,b] y) <float[5,3,3,2] w>
        {{ y = com.microsoft.FusedConv<activation="Relu", {window}>(x, w) }}"""
    network = net(text)
    assert shape_of_output(network) == run(network.model, feeds(network))[0].shape


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("size", range(5, 11))
def test_the_shape_of_a_pool_is_what_the_runtime_makes(ceil, size):
    text = f"""(uint8[1,{size},9,3] x) => (uint8[1,a,b,3] y)
        {{ y = com.microsoft.NhwcMaxPool<kernel_shape=[3,2], strides=[2,3], pads=[1,0,1,1], ceil_mode={ceil}>(x) }}"""
    network = net(text)
    assert shape_of_output(network) == run(network.model, feeds(network))[0].shape


def shape_of_output(network: Net) -> tuple[int, ...] | None:
    """The shape of the only output as the trace knows it."""
    (node,) = network.model.graph
    return trace(network).shape_of(node.outputs[0])


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_fused_matmul(left, right):
    data = "2,3,6,4" if left else "2,3,4,6"
    second = "5,4" if right else "4,5"
    text = f"""(float[{data}] x) => (float[2,3,4,2] y) <float[6,4] w, float[{second}] v, float[5,2] o>
        {{ h = com.microsoft.FusedMatMul<transA={left}>(x, w)
           m = com.microsoft.FusedMatMul<transB={right}, alpha=0.5>(h, v)
           y = MatMul(m, o) }}"""
    found = exact(net(text))
    assert units(found) == {f"w:1 v:{right}": 4, f"v:{1 - right} o:0": 5}


def test_fused_gemm():
    text = """(float[2,3] x) => (float[2,4] y) <float[3,6] w, float[6] b, float[4,6] v>
        { h = com.microsoft.FusedGemm<activation="Relu">(x, w, b)
          y = com.microsoft.FusedGemm<transB=1, activation="Sigmoid">(h, v) }"""
    assert units(exact(net(text))) == {"w:1 b:0 v:1": 6}


# -- normalisation ---------------------------------------------------------------------------------------------------

SKIP = """(float[2,5,4] x) => (float[2,5,3] y, float[2,5,2] z)
    <float[4,6] w, float[4,6] u, float[6] scale, float[6] shift, float[6] bias, float[6,3] o, float[6,2] p>
    {{ h = MatMul(x, w)
       g = MatMul(x, u)
       m, mean, var, s = com.microsoft.{}
       y = MatMul(m, o)
       z = MatMul(s, p) }}"""


@pytest.mark.parametrize("node", ["SkipLayerNormalization(h, g, scale, shift, bias)", "SkipLayerNormalization(h, g, scale)",
                                  "SkipSimplifiedLayerNormalization(h, g, scale, bias)"])  # fmt: skip
def test_skip_normalisation_is_inexact(node):
    text = SKIP.format(node).replace("mean, var, s", ", , s")
    unused = [name for name in ("shift", "bias") if name not in node]
    for name in unused:
        text = text.replace(f"float[6] {name}, ", "")
    assert pinned(exact(net(text)))["w:1"] == "is normalised over; --allow-inexact would remove it"
    (group,) = exact(net(text), allow_inexact=True).groups
    members = {m.tensor.partition("@")[0] for m in group.members}
    assert members == {"w", "u", "o", "p", "scale", "shift", "bias"} - set(unused)


def test_embed_layer_normalisation():
    text = """(int32[2,5] x, int32[2,5] s) => (float[2,5,3] y)
        <float[9,6] word, float[5,6] place, float[2,6] kind, float[6] scale, float[6] shift, float[6,3] o>
        { e, m = com.microsoft.EmbedLayerNormalization(x, s, word, place, kind, scale, shift)
          y = MatMul(e, o) }"""
    assert units(exact(net(text))) == {}
    found = exact(net(text), allow_inexact=True)
    assert units(found) == {"word:1 place:1 kind:1 scale:0 shift:0 o:0": 6}


# -- attention -------------------------------------------------------------------------------------------------------

PACKED = """(float[2,5,4] x) => (float[2,5,3] y) <float[4,{n}] w, float[{n}] b, float[{v},3] o>
    {{ m = com.microsoft.Attention<num_heads=2{more}>(x, w, b)
       y = MatMul(m, o) }}"""


@pytest.mark.parametrize("prefer", ["heads", "head-dims"])
def test_packed_attention(prefer):
    found = exact(net(PACKED.format(n=24, v=8, more="")), prefer=prefer)
    per_unit = {m.tensor: m.index.shape[1] for g in found.groups for m in g.members if m.tensor == "o"}
    assert per_unit["o"] == (4 if prefer == "heads" else 2)


def test_queries_and_keys_may_be_narrower_than_values():
    found = exact(
        net(PACKED.format(n=20, v=4, more=", qkv_hidden_sizes=[8,8,4], unidirectional=1")), prefer="head-dims"
    )
    sizes = sorted((len(g), sum(m.index.shape[1] for m in g.members if m.tensor == "w")) for g in found.groups)
    assert sizes == [(2, 2), (4, 4)]


MULTI = """(float[2,5,4] x) => (float[2,5,3] y)
    <float[4,8] q, float[4,8] k, float[4,4] v, float[20] b, float[1,2,5,5] bias, float[4,3] o>
    {{ a = MatMul(x, q)
       c = MatMul(x, k)
       d = MatMul(x, v)
       m = com.microsoft.MultiHeadAttention<num_heads=2>(a, c, d{more})
       y = MatMul(m, o) }}"""


@pytest.mark.parametrize("more", ["", ", b", ", b, , bias"])
@pytest.mark.parametrize("prefer", ["heads", "head-dims"])
def test_multi_head_attention(more, prefer):
    text = MULTI.format(more=more)
    if "bias" not in more:
        text = text.replace("float[1,2,5,5] bias, ", "")
    if ", b" not in more:
        text = text.replace("float[20] b, ", "")
    found = exact(net(text), prefer=prefer)
    assert sum(map(len, found.groups)) == (2 if prefer == "heads" else 6)


def test_a_cache_pins():
    text = """(float[2,5,4] x) => (float[2,5,3] y)
        <float[4,8] q, float[4,8] k, float[4,8] v, float[2,2,7,4] past, float[8,3] o>
        { a = MatMul(x, q)
          c = MatMul(x, k)
          d = MatMul(x, v)
          m = com.microsoft.MultiHeadAttention<num_heads=2>(a, c, d, , , , past, past)
          y = MatMul(m, o) }"""
    found = trace(net(text))
    assert units(found) == {}
    assert pinned(found)["q:1"] == "MultiHeadAttention with a cache"


# -- quantised -------------------------------------------------------------------------------------------------------

QUANTISED = """(float[2,3,6,6] x) => (float[2,2,{out}] y)
    <float xs = {{0.03}}, uint8 xz = {{120}}, float hs = {{0.05}}, uint8 hz = {{101}},
     uint8[6,3,1,1] w, float ws = {{0.02}}, uint8 wz = {{3}}, int32[6] b, float[2,6,1,1] v{weights}>
    {{ q = QuantizeLinear(x, xs, xz)
       h = QLinearConv(q, xs, xz, w, ws, wz, hs, hz, b)
       {body}
       d = DequantizeLinear(m, hs, hz)
       y = Conv(d, v) }}"""


def quantised(body: str, weights: str = "", out: str = "6,6") -> Net:
    return net(QUANTISED.format(body=body, weights=weights, out=out))


@pytest.mark.parametrize(
    ("body", "out"),
    [
        ("m = Identity(h)", "6,6"),
        ("m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)", "3,3"),
        ("m = com.microsoft.QLinearLeakyRelu<alpha=0.1>(h, hs, hz, hs, hz)", "6,6"),
        ("m = com.microsoft.QLinearSigmoid(h, hs, hz, hs, hz)", "6,6"),
        ("m = com.microsoft.QLinearGlobalAveragePool(h, hs, hz, hs, hz)", "1,1"),
        ("m = com.microsoft.QLinearAveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(h, hs, hz, hs, hz)", "3,3"),
        ("t = Transpose<perm=[0,2,3,1]>(h) p = com.microsoft.NhwcMaxPool<kernel_shape=[3,3], strides=[2,2]>(t) "
         "m = Transpose<perm=[0,3,1,2]>(p)", "2,2"),
    ],
)  # fmt: skip
def test_quantised_channels_pass(body, out):
    assert units(exact(quantised(body, out=out))) == {"w:0 b:0 v:1": 6}


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_quantised_sums_and_products_unify(op):
    body = f"g = QLinearConv(q, xs, xz, u, ws, wz, hs, hz) m = com.microsoft.{op}(h, hs, hz, g, hs, hz, hs, hz)"
    found = exact(quantised(body, ", uint8[6,3,1,1] u"))
    assert units(found) == {"w:0 b:0 u:0 v:1": 6}


def test_quantised_concat():
    body = "g = QLinearConv(q, xs, xz, u, ws, wz, hs, hz) m = com.microsoft.QLinearConcat<axis=1>(hs, hz, h, hs, hz, g, hs, hz)"
    text = QUANTISED.format(body=body, weights=", uint8[4,3,1,1] u", out="6,6").replace("[2,6,1,1] v", "[2,10,1,1] v")
    assert units(exact(net(text))) == {"w:0 b:0 v:1": 6, "u:0 v:1": 4}


@pytest.mark.skipif(RUNTIME < (1, 27), reason="older runtimes take only one zero point for all filters")
def test_quantised_per_channel_and_depthwise():
    body = "m = QLinearConv<group=6, pads=[1,1,1,1]>(h, hs, hz, u, us, uz, hs, hz, c)"
    found = exact(quantised(body, ", int8[6,1,3,3] u, float[6] us, int8[6] uz, int32[6] c"))
    assert sum(units(found).values()) == 6


@pytest.mark.parametrize("turned", [0, 1])
def test_quantised_products(turned):
    shape = "5,6" if turned else "6,5"
    text = f"""(float[2,3] x) => (float[2,4] y)
        <float s = {{0.03}}, uint8 z = {{120}}, uint8[3,6] w, float ws = {{0.02}}, uint8 wz = {{3}},
         int8[{shape}] u, float[5] us, int8[5] uz, int32[5] c, float[5,4] v>
        {{ q = QuantizeLinear(x, s, z)
           h = QLinearMatMul(q, s, z, w, ws, wz, s, z)
           g = com.microsoft.QGemm<transB={turned}>(h, s, z, u, us, uz, c, s, z)
           d = DequantizeLinear(g, s, z)
           y = MatMul(d, v) }}"""
    found = exact(net(text, uz=0))
    assert units(found) == {f"w:1 u:{turned}": 6, f"u:{1 - turned} us:0 uz:0 c:0 v:0": 5}


def test_a_zero_point_read_as_a_number_is_not_zero():
    text = """(float[1,5,6] x) => (float[1,5,1] y) <float[6,12] w, float qs = {0.1}, uint8 qz = {100}, int64[1] axis = {2}>
        { a = MatMul(x, w)  q = QuantizeLinear(a, qs, qz)  b = Cast<to=1>(q)  y = ReduceSum(b, axis) }"""
    assert pinned(exact(net(text)))["w:1"] == "is summed over although it does not become zero"


def test_another_zero_point_reads_another_number():
    text = """(float[1,5,6] x) => (float[1,5,1] y)
        <float[6,12] w, float s = {0.1}, uint8 z = {100}, uint8 other = {90}, int64[1] axis = {2}>
        { a = MatMul(x, w)  q = QuantizeLinear(a, s, z)  b = DequantizeLinear(q, s, OTHER)  y = ReduceSum(b, axis) }"""
    assert pinned(exact(net(text.replace("OTHER", "other")))) != {}
    text = text.replace(", uint8 other = {90}", "").replace("OTHER", "z")
    assert units(exact(net(text))) == {"w:1": 12}


def test_what_the_runtimes_optimiser_writes_is_traced(tmp_path):
    """The same groups before and after onnxruntime has fused the graph."""
    text = """(float[2,3,6,6] x) => (float[2,4] y)
        <float[6,3,3,3] w, float[6] b, float[6,6,3,3] u, float[6] c, float[6,8] f, float[8] g, float[8,4] o>
        { h = Conv<pads=[1,1,1,1]>(x, w, b)
          r = Relu(h)
          k = Conv<pads=[1,1,1,1]>(r, u, c)
          s = Add(k, r)
          t = Relu(s)
          p = GlobalAveragePool(t)
          e = Flatten(p)
          m = MatMul(e, f)
          n = Add(m, g)
          a = Relu(n)
          y = MatMul(a, o) }"""
    network = net(text)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(ir.to_proto(network.model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = ir.load(tmp_path / "optimised.onnx")
    assert any(node.domain == "com.microsoft" for node in fused.graph)
    found = trace(Net(fused, "fused", network.inputs))
    assert sorted(map(len, found.groups)) == sorted(map(len, trace(network).groups)) == [6, 8]
    exact(Net(fused, "fused", network.inputs))
