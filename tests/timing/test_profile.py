import numpy as np
import pytest

from slimnet.common.errors import BadInput
from slimnet.graph.layers import layer_name
from slimnet.runtime.backend import NodeRuns
from slimnet.runtime.onnxruntime import OnnxRuntime
from slimnet.timing.latency import compare
from slimnet.timing.profile import profile
from tests.networks.backends import WEIGHT_S, Simulated

ONE = OnnxRuntime(threads=1)


def test_fused_and_reordered_nodes_are_counted_in_their_layers(net, image):
    measured = profile({"net": net(32)}, image, backend=ONE, max_seconds=0, min_runs=4)["net"]
    assert {node.op for node in measured.nodes} >= {"Conv", "ReorderOutput"}
    layers = [name for name in measured.layers if not name.startswith("(")]
    assert layers == ["conv0", "conv1", "conv2", "fc"]


def test_layers_sum_to_the_total_and_the_total_to_the_latency(net, image):
    model, backend = net(64), Simulated()
    measured = profile({"net": model}, image, backend, max_seconds=0.3)["net"]
    assert sum(measured.layers.values()) == pytest.approx(measured.total)
    assert measured.total == pytest.approx(compare({"net": model}, image, backend).timing("net").median)


def test_layers_take_the_time_of_their_nodes(net, image):
    layers = profile({"net": net(64)}, image, Simulated(), max_seconds=0.3)["net"].layers
    assert layers["conv1"] == pytest.approx(1e3 * WEIGHT_S * 64 * 64 * 9)
    assert layers["conv0"] == pytest.approx(1e3 * WEIGHT_S * 64 * 3 * 9)


def test_the_slowest_and_the_fastest_quarter_of_the_runs_do_not_count(net, image):
    times = [9.0, 9.0, 9.0, *([1.0] * 5), *([2.0] * 5), *([3.0] * 5), *([70.0] * 5)]  # the first three warm up

    class Uneven(Simulated):
        def probe(self, model, folder):
            probe = super().probe(model, folder)
            probe.nodes = lambda: [NodeRuns("@0@", "Conv", times)]
            return probe

    (node,) = profile({"net": net(8)}, image, Uneven(), min_runs=20, max_seconds=0)["net"].nodes
    assert node.ms == pytest.approx(2500)


def test_runs_go_on_until_time_is_up(net, image):
    backend = Simulated(seconds=lambda _model: 0.011)
    runs = {n: p.runs for n, p in profile({"a": net(8), "b": net(8)}, image, backend, 2, max_seconds=0.5).items()}
    assert runs == {"a": 20, "b": 20}  # and three to warm up


def test_models_that_fuse_differently_share_their_layers(net, image):
    # 62 channels are not a multiple of 4, which the runtime's blocked layout asks for.
    both = profile({"dense": net(64), "slim": net(62)}, image, backend=ONE, max_seconds=0, min_runs=4)
    dense, slim = ([n for n in both[k].layers if not n.startswith("(")] for k in ("dense", "slim"))
    assert dense == slim
    assert {n.op for n in both["dense"].nodes} != {n.op for n in both["slim"].nodes}


def test_a_residual_sum_goes_to_the_convolution_it_is_fused_into(text, image):
    model = text("""
        (float[1,3,16,16] x) => (float[1,16,16,16] y)
            <float[16,3,1,1] w_in, float[16,16,3,3] w_main, float[16,16,1,1] w_short> {
            h = Conv (x, w_in)  r = Relu (h)
            main = Conv <pads = [1,1,1,1]> (r, w_main)  short = Conv (r, w_short)
            sum = Add (main, short)  y = Relu (sum)
        }""")
    measured = profile({"net": model}, image, backend=ONE, max_seconds=0, min_runs=4)["net"]
    assert sorted(measured.layers) == ["w_in", "w_main", "w_short"]


def test_a_bias_added_to_a_product_is_part_of_it(text):
    model = text("(float[2,8,16] x) => (float[2,8,32] y) <float[16,32] w, float[32] w_bias> {"
                 " h = MatMul (x, w)  s = Add (h, w_bias)  y = Relu (s) }")  # fmt: skip
    feed = {"x": np.ones((2, 8, 16), np.float32)}
    measured = profile({"net": model}, feed, backend=ONE, max_seconds=0, min_runs=4)["net"]
    assert [name for name in measured.layers if not name.startswith("(")] == ["w"]
    assert "Add" not in {node.op for node in measured.nodes}


def test_the_body_of_an_if_counts_once(text):
    model = text("""(bool c, float[64,64] x) => (float[64,64] y) {
        y = If (c) <
            then_branch = a () => (float[64,64] p) { p = MatMul(x, x) },
            else_branch = b () => (float[64,64] q) { q = Relu(x) }
        >
    }""")
    feed = {"c": np.array(True), "x": np.ones((64, 64), np.float32)}
    measured = profile({"net": model}, feed, backend=ONE, max_seconds=0, min_runs=4)["net"]
    assert list(measured.layers) == ["(If)"]


def test_layers_are_named_after_their_weights_then_their_modules_then_their_values(text):
    model = text("(float[4,4] x) => (float[4,4] y) <float[4,4] w, float[4] w_bias> {"
                 " a = MatMul(x, w) b = Add(a, w_bias) c = MatMul(b, x) y = MatMul(c, x) }")  # fmt: skip
    weighted, bias, plain, module = list(model.graph)
    module.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'encoder', 'encoder.proj', 'linear_3']"
    names = [layer_name(node) for node in (weighted, bias, plain, module)]
    assert names == ["w", "b", "c", "encoder.proj/linear_3"]


def test_inputs_that_do_not_fit_are_bad_input(net):
    with pytest.raises(BadInput, match=r"mine: .* invalid dimensions"):
        profile({"mine": net(8)}, {"x": np.zeros((1, 3, 8, 8), np.float32)})
