import onnx_ir as ir
import pytest
from onnx import parser

from slimnet.bench.latency import compare
from slimnet.bench.profile import layer_name, profile


def text(graph: str) -> ir.Model:
    return ir.from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}'))


def test_fused_and_reordered_nodes_are_counted_in_their_layers(net, image):
    measured = profile({"net": net(32)}, image, threads=1, max_seconds=0.2)["net"]
    assert {node.op for node in measured.nodes} >= {"Conv", "ReorderOutput"}
    layers = [name for name in measured.layers if not name.startswith("(")]
    assert layers == ["conv0", "conv1", "conv2", "fc"]


def test_layers_sum_to_the_total_and_the_total_to_the_latency(net, image):
    model = net(64)
    measured = profile({"net": model}, image, threads=1, max_seconds=0.3)["net"]
    assert sum(measured.layers.values()) == pytest.approx(measured.total)
    latency = compare({"net": model}, image, threads=1, max_seconds=0.3).timing("net").median
    assert latency / 3 < measured.total < latency * 3


def test_the_layer_with_most_work_takes_most_time(net, image):
    layers = profile({"net": net(64)}, image, threads=1, max_seconds=0.3)["net"].layers
    assert layers["conv1"] > 2 * layers["conv0"]


def test_models_that_fuse_differently_share_their_layers(net, image):
    # 62 channels are not a multiple of 4, which the runtime's blocked layout asks for.
    both = profile({"dense": net(64), "slim": net(62)}, image, threads=1, max_seconds=0.3)
    dense, slim = ([n for n in both[k].layers if not n.startswith("(")] for k in ("dense", "slim"))
    assert dense == slim
    assert {n.op for n in both["dense"].nodes} != {n.op for n in both["slim"].nodes}


def test_a_residual_sum_goes_to_the_convolution_it_is_fused_into(image):
    model = text("""g (float[1,3,16,16] x, float[16,3,3,3] a, float[16,16,3,3] b, float[16,3,1,1] c) => (float[1,16,14,14] y) {
        h = Conv(x, a)  r = Relu(h)
        main = Conv <pads = [1,1,1,1]> (r, b)  short = Conv <pads = [0,0,0,0]> (x2, c)
        sum = Add(main, short)  y = Relu(sum)
    }""".replace("x2", "x"))
    assert model is not None


def test_the_body_of_an_if_counts_once(image):
    model = text("""g (bool c, float[1,64,64] x) => (float[1,64,64] y) {
        y = If (c) <
            then_branch = a () => (float[1,64,64] p) { p = MatMul(x, x) },
            else_branch = b () => (float[1,64,64] q) { q = Relu(x) }
        >
    }""")
    feed = {"c": image["x"][0, 0, 0, 0] == image["x"][0, 0, 0, 0], "x": image["x"].repeat(16).reshape(3, 64, 64)[:1]}
    measured = profile({"net": model}, feed, threads=1, max_seconds=0.1)["net"]
    assert list(measured.layers) == ["(If)"]


def test_layers_are_named_after_their_weights_then_their_modules_then_their_values():
    model = text("g (float[4,4] x, float[4,4] z) => (float[4,4] y) { h = MatMul(x, z) k = Relu(h) y = MatMul(k, z) }")
    plain, relu, module = list(model.graph)
    module.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'encoder', 'encoder.proj', 'linear_3']"
    assert [layer_name(n) for n in (plain, relu, module)] == ["h", "k", "encoder.proj/linear_3"]
