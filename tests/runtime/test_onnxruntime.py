import json

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import parser

from slimnet.common.errors import BadInput
from slimnet.runtime import onnxruntime as runtime
from slimnet.runtime.backend import NodeRuns, RunFailed
from slimnet.runtime.onnxruntime import DEFAULT, OnnxRuntime, write_optimised


def test_a_model_runs_as_its_file_does(net, image, tmp_path):
    model = net(32)
    ir.save(model, tmp_path / "net.onnx")
    from_model, from_file = (DEFAULT.session(m).run(image)[0] for m in (model, tmp_path / "net.onnx"))
    np.testing.assert_array_equal(from_model, from_file)


def test_the_model_is_left_as_it_is(net):
    model = net(32)
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    DEFAULT.session(model)
    assert all(model.graph.initializers[name].const_value is tensor for name, tensor in before.items())


def test_weights_in_external_data_are_found_from_any_folder(net, image, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    ir.save(net(32), tmp_path / "a" / "net.onnx", external_data="net.data", size_threshold_bytes=0)
    model = ir.load(tmp_path / "a" / "net.onnx")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(DEFAULT.session(model).run(image)[0], DEFAULT.session(net(32)).run(image)[0])


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.INT4, ir.DataType.INT64])
def test_weights_of_any_type_are_handed_over(dtype):
    array = np.ones((64, 64), dtype.numpy())
    weight = ir.Value(name="w", const_value=ir.Tensor(array, dtype=dtype, name="w"))
    cast = ir.Node("", "Cast", [weight], [ir.AttrInt64("to", 1)], name="cast")
    cast.outputs[0].name, cast.outputs[0].dtype, cast.outputs[0].shape = "y", ir.DataType.FLOAT, ir.Shape([64, 64])
    graph = ir.Graph([], cast.outputs, nodes=[cast], initializers=[weight], opset_imports={"": 21}, name="cast")
    assert DEFAULT.session(ir.Model(graph, ir_version=10)).run({})[0].sum() == 64 * 64


def test_optimisation_can_be_switched_off(net, tmp_path, monkeypatch):
    options = OnnxRuntime._options

    def written(self: OnnxRuntime, optimise: bool) -> ort.SessionOptions:
        made = options(self, optimise)
        write_optimised(made, tmp_path / f"{optimise}.onnx")
        return made

    monkeypatch.setattr(OnnxRuntime, "_options", written)
    DEFAULT.session(net(32), optimise=False)
    assert [n.op_type for n in ir.load(tmp_path / "False.onnx").graph].count("Relu") == 3
    DEFAULT.session(net(32))
    assert "Relu" not in [n.op_type for n in ir.load(tmp_path / "True.onnx").graph]


@pytest.mark.parametrize("content", [None, b"", b"not a model at all" * 20])
def test_a_bad_file_is_named_on_one_line(tmp_path, content):
    file = tmp_path / "broken.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.onnx") as caught:
        DEFAULT.session(file)
    assert "\n" not in str(caught.value)


def test_an_op_onnxruntime_lacks_is_bad_input(text):
    with pytest.raises(BadInput, match="own:Strange"):
        DEFAULT.session(text("(float[1] x) => (float[1] y) { y = own.Strange(x) }"))


@pytest.mark.parametrize("threads", [0, -2])
def test_less_than_one_thread_is_bad_input(threads):
    with pytest.raises(BadInput, match=f"`threads` {threads}"):
        OnnxRuntime(threads=threads)


def test_weights_and_inputs_of_bfloat16_are_run_and_bound():
    proto = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]> g (bfloat16[2,2] x, float[2,2] z) => (float[2,2] y)
        { f = Cast<to=1>(x) y = Add(f, z) }"""
    )
    session = DEFAULT.session(ir.from_proto(proto))
    x = np.array([[1.0, -2.5], [0.0, 3.0]], ir.DataType.BFLOAT16.numpy())
    feed = {"x": x, "z": np.ones((2, 2), np.float32)}
    np.testing.assert_array_equal(session.run(feed)[0], x.astype(np.float32) + 1)
    assert session.bind(feed)(3) > 0


@pytest.mark.parametrize("dtype", [ir.DataType.BFLOAT16, ir.DataType.FLOAT8E4M3FN])
def test_outputs_of_types_that_numpy_lacks(dtype):
    proto = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]> g (float[2,3] x) => (float[2,3] y, {dtype.name.lower()}[2,3] z)
        {{ y = Neg(x) z = Cast<to={dtype.value}>(x) }}"""
    )
    x = np.array([[1, -2.5, 0], [0.5, 3, 8]], np.float32)
    y, z = DEFAULT.session(ir.from_proto(proto)).run({"x": x})
    np.testing.assert_array_equal(y, -x)
    assert z.dtype == dtype.numpy()
    np.testing.assert_array_equal(z.astype(np.float32), x)


def test_a_sequence_gives_all_its_elements():
    proto = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (seq(float[2]) both, float[2] y)
        { y = Neg(x) both = SequenceConstruct(x, y) }"""
    )
    outputs = DEFAULT.session(ir.from_proto(proto)).run({"x": np.array([1, 2], np.float32)})
    assert [output.tolist() for output in outputs] == [[1, 2], [-1, -2], [-1, -2]]


def test_inputs_may_lie_in_memory_in_any_order(net, image):
    session = DEFAULT.session(net(8))
    turned = {"x": np.asfortranarray(image["x"])}
    np.testing.assert_array_equal(session.run(turned)[0], session.run(image)[0])
    assert session.bind(turned)(1) > 0


def test_large_weights_are_not_copied(net, monkeypatch):
    """Only the graph is serialised, which can be 2 GB at most; onnxruntime reads the weights where they lie."""
    seen = []
    load = ort.InferenceSession

    def loading(model: bytes, *rest: object, **more: object) -> ort.InferenceSession:
        seen.append(len(model))
        return load(model, *rest, **more)

    monkeypatch.setattr(runtime.ort, "InferenceSession", loading)
    small, large = net(16), net(128)
    for model in (small, large):
        DEFAULT.session(model)
    assert seen[1] < seen[0] + 1000


def test_a_scalar_input_stays_one(text):
    session = DEFAULT.session(text("(float x, float[3] z) => (float[3] y) { y = Mul(x, z) }"))
    feed = {"x": np.array(2.0, np.float32), "z": np.ones(3, np.float32)}
    np.testing.assert_array_equal(session.run(feed)[0], [2, 2, 2])
    assert session.bind(feed)(1) > 0


# -- provider and threads --------------------------------------------------------------------------------------------


def test_a_provider_goes_by_its_name_or_a_short_one(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert OnnxRuntime("cuda") == OnnxRuntime("CUDAExecutionProvider")
    assert OnnxRuntime("CPU") == OnnxRuntime() == DEFAULT
    with pytest.raises(BadInput, match="abacus: is not installed; this onnxruntime has cuda, cpu"):
        OnnxRuntime("abacus")


@pytest.mark.parametrize("load", ["session", "probe"])
def test_provider_and_threads_reach_the_session(net, tmp_path, monkeypatch, load):
    asked, real = [], ort.InferenceSession

    def watched(model: bytes, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
        asked.append((options.intra_op_num_threads, providers))
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", watched)
    backend = OnnxRuntime("cuda", 3)
    backend.session(net(8)) if load == "session" else backend.probe(net(8), tmp_path)
    assert asked == [(3, ["CUDAExecutionProvider", "CPUExecutionProvider"])]


def test_it_describes_itself():
    told = OnnxRuntime(threads=3).describe()
    assert (told.name, told.version) == ("onnxruntime", ort.__version__)
    assert (told.provider, told.threads) == ("CPUExecutionProvider", 3)
    assert told.cpu
    assert told.cores >= 1
    assert OnnxRuntime("cpu", 3).with_threads(2) == OnnxRuntime("cpu", 2)


def test_a_bound_run_is_timed_from_its_first_run_to_its_last(net, image, monkeypatch):
    clock = iter([100.0, 107.0])
    bound = DEFAULT.session(net(8)).bind(image)
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: next(clock))
    assert bound(5) == 7.0


# -- its private parts -----------------------------------------------------------------------------------------------


def test_its_errors_are_where_they_are_looked_for():
    """Without onnxruntime.capi.onnxruntime_pybind11_state a model that cannot be run ends in a traceback."""
    found = {error.__name__ for error in runtime.ERRORS}
    assert found >= {"Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented"}


def test_its_messages_begin_with_codes_that_are_left_out(net):
    """If the form of its messages changes, users read codes and temporary paths in them again."""
    with pytest.raises(RunFailed) as caught:
        DEFAULT.session(net(8)).run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert str(caught.value.__cause__).startswith("[ONNXRuntimeError] : ")
    assert "ONNXRuntimeError" not in caught.value.reason
    assert str(caught.value) == f"onnxruntime cannot run it on these inputs: {caught.value.reason}"


def test_its_settings_without_a_method_are_known_to_it(net, tmp_path):
    """If it no longer knows session.optimized_model_external_..., large graphs cannot be profiled by layer."""
    options = OnnxRuntime()._options(True)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    graph = OnnxRuntime().probe(net(64), tmp_path).graph
    assert (tmp_path / "optimised.onnx.data").exists()
    assert any(value.const_value is not None for value in graph.initializers.values())


def test_its_profile_has_the_form_that_is_read(net, image, tmp_path):
    """If the profiler's events change, no layer gets a time."""
    probe = OnnxRuntime(threads=1).probe(net(8), tmp_path)
    probe.bind(image)(3)
    nodes = probe.nodes()
    assert {node.op for node in nodes} >= {"Conv", "MatMul"}
    assert all(len(node.seconds) == 3 and not node.name.endswith("_kernel_time") for node in nodes)


def test_the_nodes_inside_another_one_do_not_count(net, tmp_path, monkeypatch):
    def event(name: str, op: str, start: int, microseconds: int, cat: str = "Node") -> dict[str, object]:
        return {"cat": cat, "name": name, "ts": start, "dur": microseconds, "args": {"op_name": op}}

    events = [
        event("run", "", 0, 1000, cat="Session"),
        event("a_kernel_time", "If", 0, 50),
        event("inner_kernel_time", "Relu", 10, 20),
        event("b_kernel_time", "Conv", 50, 7),
        event("a_kernel_time", "If", 100, 40),
    ]
    (tmp_path / "events.json").write_text(json.dumps(events))
    probe = OnnxRuntime(threads=1).probe(net(8), tmp_path)
    monkeypatch.setattr(probe._raw, "end_profiling", lambda: str(tmp_path / "events.json"))
    assert probe.nodes() == [NodeRuns("a", "If", [50e-6, 40e-6]), NodeRuns("b", "Conv", [7e-6])]
