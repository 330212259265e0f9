import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from slimnet.common.errors import BadInput
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
        DEFAULT.session(text("g (float[1] x) => (float[1] y) { y = own.Strange(x) }"))


@pytest.mark.parametrize("threads", [0, -2])
def test_less_than_one_thread_is_bad_input(threads):
    with pytest.raises(BadInput, match=f"--threads {threads}"):
        OnnxRuntime(threads=threads)
