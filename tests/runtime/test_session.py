import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput
from slimnet.runtime.feeds import random_inputs
from slimnet.runtime.session import session


def test_a_model_runs_as_its_file_does(net, image, tmp_path):
    model = net(32)
    ir.save(model, tmp_path / "net.onnx")
    from_model, from_file = (session(m).run(None, image)[0] for m in (model, tmp_path / "net.onnx"))
    np.testing.assert_array_equal(from_model, from_file)


def test_the_model_is_left_as_it_is(net):
    model = net(32)
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    session(model)
    assert all(model.graph.initializers[name].const_value is tensor for name, tensor in before.items())


def test_weights_in_external_data_are_found_from_any_folder(net, image, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    ir.save(net(32), tmp_path / "a" / "net.onnx", external_data="net.data", size_threshold_bytes=0)
    model = ir.load(tmp_path / "a" / "net.onnx")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(session(model).run(None, image)[0], session(net(32)).run(None, image)[0])


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.INT4, ir.DataType.INT64])
def test_weights_of_any_type_are_handed_over(dtype):
    array = np.ones((64, 64), dtype.numpy())
    weight = ir.Value(name="w", const_value=ir.Tensor(array, dtype=dtype, name="w"))
    cast = ir.Node("", "Cast", [weight], [ir.AttrInt64("to", 1)], name="cast")
    cast.outputs[0].name, cast.outputs[0].dtype, cast.outputs[0].shape = "y", ir.DataType.FLOAT, ir.Shape([64, 64])
    graph = ir.Graph([], cast.outputs, nodes=[cast], initializers=[weight], opset_imports={"": 21}, name="cast")
    assert session(ir.Model(graph, ir_version=10)).run(None, {})[0].sum() == 64 * 64


def test_optimisation_can_be_switched_off(net, image, tmp_path):
    session(net(32), optimise=False, optimised_path=tmp_path / "plain.onnx")
    assert [n.op_type for n in ir.load(tmp_path / "plain.onnx").graph].count("Relu") == 3
    session(net(32), optimised_path=tmp_path / "fused.onnx")
    assert "Relu" not in [n.op_type for n in ir.load(tmp_path / "fused.onnx").graph]


@pytest.mark.parametrize("content", [None, b"", b"not a model at all" * 20])
def test_a_bad_file_is_named_on_one_line(tmp_path, content):
    file = tmp_path / "broken.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.onnx") as caught:
        session(file)
    assert "\n" not in str(caught.value)


def test_an_op_onnxruntime_lacks_is_bad_input(text):
    with pytest.raises(BadInput, match="own:Strange"):
        session(text("g (float[1] x) => (float[1] y) { y = own.Strange(x) }"))


@pytest.mark.parametrize("threads", [0, -2])
def test_less_than_one_thread_is_bad_input(net, threads):
    with pytest.raises(BadInput, match=f"--threads {threads}"):
        session(net(8), threads)


def test_random_inputs_suit_their_types(text):
    model = text(
        "g (float16[2,3] half, int64[50] ids, int32[50] flags, bool[50] mask) => (float16[2,3] y) { y = Relu(half) }"
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
    first, again, other = (random_inputs(m, shapes, s)["x"] for m, s in ((model, 0), (session(model), 0), (model, 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_input_without_a_shape_is_bad_input(net):
    with pytest.raises(BadInput, match="input x has no shape"):
        random_inputs(net(8), {})


def test_an_input_that_is_no_tensor_is_bad_input(text):
    model = text("g (seq(float[2]) xs) => (int64 n) { n = SequenceLength(xs) }")
    for source in (model, session(model)):
        with pytest.raises(BadInput, match="input xs is of type seq"):
            random_inputs(source, {"xs": (2,)})
