import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.graph.layers import layer_name
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing.latency import compare
from slimnet.timing.profile import profile

ONE = OnnxRuntime(threads=1)


def test_fused_and_reordered_nodes_are_counted_in_their_layers(net, image):
    measured = profile({"net": net(32)}, image, backend=ONE, max_seconds=0.2)["net"]
    assert {node.op for node in measured.nodes} >= {"Conv", "ReorderOutput"}
    layers = [name for name in measured.layers if not name.startswith("(")]
    assert layers == ["conv0", "conv1", "conv2", "fc"]


def test_layers_sum_to_the_total_and_the_total_to_the_latency(net, image):
    model = net(64)
    measured = profile({"net": model}, image, backend=ONE, max_seconds=0.3)["net"]
    assert sum(measured.layers.values()) == pytest.approx(measured.total)
    latency = compare({"net": model}, image, backend=ONE, max_seconds=0.3).timing("net").median
    assert latency / 6 < measured.total < latency * 6


def test_the_layer_with_most_work_takes_most_time(net, image):
    layers = profile({"net": net(64)}, image, backend=ONE, max_seconds=0.3)["net"].layers
    assert layers["conv1"] > 2 * layers["conv0"]


def test_models_that_fuse_differently_share_their_layers(net, image):
    # 62 channels are not a multiple of 4, which the runtime's blocked layout asks for.
    both = profile({"dense": net(64), "slim": net(62)}, image, backend=ONE, max_seconds=0.3)
    dense, slim = ([n for n in both[k].layers if not n.startswith("(")] for k in ("dense", "slim"))
    assert dense == slim
    assert {n.op for n in both["dense"].nodes} != {n.op for n in both["slim"].nodes}


def test_a_residual_sum_goes_to_the_convolution_it_is_fused_into(text, image):
    model = text("""
        g (float[1,3,16,16] x, float[16,3,1,1] w_in, float[16,16,3,3] w_main, float[16,16,1,1] w_short)
            => (float[1,16,16,16] y) {
            h = Conv (x, w_in)  r = Relu (h)
            main = Conv <pads = [1,1,1,1]> (r, w_main)  short = Conv (r, w_short)
            sum = Add (main, short)  y = Relu (sum)
        }""")
    measured = profile({"net": model}, image, backend=ONE, max_seconds=0.1)["net"]
    assert sorted(measured.layers) == ["w_in", "w_main", "w_short"]


def test_a_bias_added_to_a_product_is_part_of_it(text):
    model = text("g (float[2,8,16] x, float[16,32] w, float[32] w_bias) => (float[2,8,32] y) {"
                 " h = MatMul (x, w)  s = Add (h, w_bias)  y = Relu (s) }")  # fmt: skip
    measured = profile({"net": model}, {"x": np.ones((2, 8, 16), np.float32)}, backend=ONE, max_seconds=0.1)["net"]
    assert [name for name in measured.layers if not name.startswith("(")] == ["w"]
    assert "Add" not in {node.op for node in measured.nodes}


def test_the_body_of_an_if_counts_once(text):
    model = text("""g (bool c, float[64,64] x) => (float[64,64] y) {
        y = If (c) <
            then_branch = a () => (float[64,64] p) { p = MatMul(x, x) },
            else_branch = b () => (float[64,64] q) { q = Relu(x) }
        >
    }""")
    feed = {"c": np.array(True), "x": np.ones((64, 64), np.float32)}
    measured = profile({"net": model}, feed, backend=ONE, max_seconds=0.1)["net"]
    assert list(measured.layers) == ["(If)"]


def test_layers_are_named_after_their_weights_then_their_modules_then_their_values(text):
    model = text("g (float[4,4] x, float[4,4] w, float[4] w_bias) => (float[4,4] y) {"
                 " a = MatMul(x, w) b = Add(a, w_bias) c = MatMul(b, x) y = MatMul(c, x) }")  # fmt: skip
    weighted, bias, plain, module = list(model.graph)
    module.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'encoder', 'encoder.proj', 'linear_3']"
    names = [layer_name(node) for node in (weighted, bias, plain, module)]
    assert names == ["w", "b", "c", "encoder.proj/linear_3"]


def test_inputs_that_do_not_fit_are_bad_input(net):
    with pytest.raises(BadInput, match=r"mine: .* invalid dimensions"):
        profile({"mine": net(8)}, {"x": np.zeros((1, 3, 8, 8), np.float32)})
