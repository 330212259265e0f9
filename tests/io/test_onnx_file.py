import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest

from slimnet.common.errors import BadInput, SlimnetError
from slimnet.io import onnx_file
from slimnet.io.load import load
from slimnet.io.onnx_file import load_onnx, save_onnx

LINEAR = """
<ir_version: 8, opset_import: ["" : 17]>
linear (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { y = MatMul(x, w) }
"""
HEADER = '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>\n'


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, edit: Callable[[onnx.ModelProto], None] | None = None) -> Path:
        proto = onnx.parser.parse_model(text)
        if edit is not None:
            edit(proto)
        path = tmp_path / "net.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    return write


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(BadInput) as caught:
        load_onnx(path, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def run(path: Path, **inputs: np.ndarray) -> np.ndarray:
    output: np.ndarray = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
    return output


def test_load_keeps_dynamic_axes_and_gives_concrete_shapes(written: Callable[..., Path]) -> None:
    net = load_onnx(written(LINEAR))
    assert (net.name, net.inputs, net.torch) == ("net", {"x": (1, 4)}, None)
    assert [str(d) for d in net.model.graph.inputs[0].shape or ()] == ["N", "4"]
    assert list(net.params()) == ["w"]
    np.testing.assert_array_equal(net.params()["w"], np.arange(1, 13, dtype=np.float32).reshape(4, 3))


def test_load_never_imports_torch(written: Callable[..., Path]) -> None:
    code = "import sys, slimnet; slimnet.load(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(written(LINEAR))], check=False).returncode == 0


def test_saved_file_computes_the_same(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written(LINEAR)
    save_onnx(load_onnx(path).model, tmp_path / "new" / "out.onnx")
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(run(path, x=x), run(tmp_path / "new" / "out.onnx", x=x))


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"this is not a network", b"PK\x03\x04 a zip"])
def test_not_onnx(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert "export or copy it again" in refusal(path)


def test_truncated(written: Callable[..., Path]) -> None:
    path = written(LINEAR)
    path.write_bytes(path.read_bytes()[:-20])
    assert "is not an ONNX file, or is truncated" in refusal(path)


def test_damaged(written: Callable[..., Path]) -> None:
    path = written(LINEAR)
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"MatM\xff\xff"))
    assert "is not valid ONNX" in refusal(path)


def test_old_opset(written: Callable[..., Path]) -> None:
    assert "is opset 8, slimnet reads 9 and newer" in refusal(written(LINEAR.replace("17", "8")))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("g (float[1,4] x) => (float[1,4] y) { y = Relu(z) }", "input 'z' of node"),
        ("g (float[1,4] x) => (float[1,4] y) { y = Concat(x, x) }", "Required attribute 'axis' is missing"),
    ],
)
def test_invalid_graph(text: str, complaint: str, written: Callable[..., Path]) -> None:
    assert complaint in refusal(written(HEADER + text))


@pytest.mark.parametrize("op", ["my.Plugin", "Plugin_TRT"])
def test_custom_ops_are_left_alone(op: str, written: Callable[..., Path], tmp_path: Path) -> None:
    net = load_onnx(written(HEADER + f"g (float[1,4] x) => (float[1,4] y) {{ y = {op}(x) }}"))
    save_onnx(net.model, tmp_path / "out.onnx")
    assert [n.op_type for n in load_onnx(tmp_path / "out.onnx").model.graph] == [op.removeprefix("my.")]


def test_imports_of_operators_that_nothing_uses_are_dropped(written: Callable[..., Path]) -> None:
    """onnxruntime refuses a version that it does not know, of whatever set of operators."""
    net = load_onnx(written(LINEAR.replace('"" : 17', '"" : 17, "ai.onnx.ml" : 99, "com.microsoft" : 7')))
    assert dict(net.model.opset_imports) == {"": 17}


def test_functions_are_inlined(written: Callable[..., Path]) -> None:
    text = HEADER + "g (float[1,4] x) => (float[1,4] y) { y = my.twice(x) }"
    text += '<opset_import: ["" : 17], domain: "my"> twice (a) => (b) { b = Add(a, a) }'
    net = load_onnx(written(text))
    assert [n.op_type for n in net.model.graph] == ["Add"]
    assert not net.model.functions


DOUBLING = "g (float[1,4] x) => (float[1,4] y) { y = my.f20(x) }"


def doubling(levels: int, last: str) -> str:
    """Functions of which each calls the one before twice."""
    head = '<opset_import: ["" : 17, "my" : 1], domain: "my"> '
    calls = [f"{head} f{k} (a) => (c) {{ b = my.f{k - 1}(a)  c = my.f{k - 1}(b) }}" for k in range(1, levels + 1)]
    return HEADER + DOUBLING.replace("f20", f"f{levels}") + head + f"f0 (a) => (b) {{ b = {last}(a) }}" + "".join(calls)


def test_functions_in_functions_are_inlined_in_time_that_grows_with_their_nodes(written: Callable[..., Path]) -> None:
    net = load_onnx(written(doubling(12, "Tanh")))
    assert [n.op_type for n in net.model.graph] == ["Tanh"] * 4096


def test_functions_that_would_make_too_many_nodes_are_refused_before_they_are_inlined(
    written: Callable[..., Path],
) -> None:
    file = written(doubling(40, "Tanh"))
    with pytest.raises(BadInput, match=r"they make 1,099,511,627,776 nodes, and slimnet takes up to 262,144; export"):
        load_onnx(file)


def test_a_function_that_calls_itself_is_refused(written: Callable[..., Path]) -> None:
    file = written(doubling(3, "my.f3"))
    with pytest.raises(BadInput, match=r"Cycle detected in model-local function"):
        load_onnx(file)


def test_initializers_among_the_inputs_are_no_inputs(written: Callable[..., Path], tmp_path: Path) -> None:
    def list_as_input(proto: onnx.ModelProto) -> None:
        proto.ir_version = 3
        proto.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 3]))

    net = load_onnx(written(LINEAR.replace("17", "9"), list_as_input))
    assert net.inputs == {"x": (1, 4)}
    save_onnx(net.model, tmp_path / "out.onnx")
    assert [i.name for i in onnx.load(tmp_path / "out.onnx").graph.input] == ["x"]


def test_arrays_in_constant_nodes_become_initializers_and_half_precision_is_read(written: Callable[..., Path]) -> None:
    text = (
        "g (float16[1,2] x) => (float16[1,2] y) { c = Constant <value = float16[2] {15360, 16384}> () y = Add(x, c) }"
    )
    net = load_onnx(written(HEADER + text))
    assert [n.op_type for n in net.model.graph] == ["Add"]
    assert net.model.graph.initializers["c"].const_value.numpy().tolist() == [1.0, 2.0]


class TestExternalData:
    @pytest.fixture
    def location(self, written: Callable[..., Path]) -> Callable[[str], Path]:
        """Writes a network whose weights are said to lie elsewhere."""

        def write(location: str) -> Path:
            def point(proto: onnx.ModelProto) -> None:
                weight = proto.graph.initializer[0]
                weight.ClearField("float_data")
                weight.data_location = onnx.TensorProto.EXTERNAL
                weight.external_data.add(key="location", value=location)
                weight.external_data.add(key="length", value="48")

            return written(LINEAR, point)

        return write

    def test_is_read(self, location: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(np.arange(12, dtype=np.float32).tobytes())
        net = load_onnx(location("w.bin"))
        assert net.params()["w"].sum() == 66
        save_onnx(net.model, tmp_path / "out.onnx")
        (tmp_path / "w.bin").unlink()
        assert run(tmp_path / "out.onnx", x=np.ones((1, 4), np.float32)).sum() == 66

    def test_missing(self, location: Callable[[str], Path], tmp_path: Path) -> None:
        assert f"its external data {tmp_path / 'w.bin'} is missing" in refusal(location("w.bin"))

    def test_too_short(self, location: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(b"short")
        assert "the data of w cannot be read" in refusal(location("w.bin"))

    @pytest.mark.parametrize("escape", ["../secret", "/etc/hostname"])
    def test_outside_the_folder(self, escape: str, location: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path.parent / "secret").write_bytes(bytes(48))
        assert "outside the base directory" in refusal(location(escape))

    def test_link_that_leaves_the_folder(self, location: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path.parent / "secret").write_bytes(bytes(48))
        (tmp_path / "w.bin").symlink_to(tmp_path.parent / "secret")
        assert "symlink" in refusal(location("w.bin"))

    def test_relative_path_does_not_lift_the_check(
        self, location: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = location("/etc/hostname")
        monkeypatch.chdir(tmp_path)
        assert "outside the base directory" in refusal(Path(path.name))

    def test_large_models_are_written_in_two_files(
        self, written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def enlarge(proto: onnx.ModelProto) -> None:
            weight = np.ones((4, 300), np.float32)
            proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
            proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 300

        monkeypatch.setattr(onnx_file, "EMBEDDED_BYTES", 1000)
        path = tmp_path / "out" / "slim.onnx"
        save_onnx(load_onnx(written(LINEAR, enlarge)).model, path)
        assert sorted(f.name for f in path.parent.iterdir()) == ["slim.onnx", "slim.onnx.data"]
        assert run(path, x=np.ones((1, 4), np.float32)).sum() == 1200
        again = load_onnx(path)
        save_onnx(again.model, path)  # onto the very file its weights are mapped from
        assert run(path, x=np.ones((1, 4), np.float32)).sum() == 1200


class TestInputs:
    TWO = HEADER + "g (float[N, 3, H, H] x, int64[N, T] ids) => (float[N, 3, H, H] y) { y = Relu(x) }"

    @pytest.mark.parametrize(
        ("inputs", "shapes"),
        [
            (["x=2x3x8x8", "ids=2x5"], {"x": (2, 3, 8, 8), "ids": (2, 5)}),
            (["2x3x8x8", "2x5:int64"], {"x": (2, 3, 8, 8), "ids": (2, 5)}),
            ({"ids": (4, 5), "x": (4, 3, 9, 9)}, {"x": (4, 3, 9, 9), "ids": (4, 5)}),
        ],
    )
    def test_given(self, inputs: object, shapes: dict[str, tuple[int, ...]], written: Callable[..., Path]) -> None:
        assert load_onnx(written(self.TWO), inputs).inputs == shapes  # type: ignore[arg-type]

    def test_a_symbol_has_one_size(self, written: Callable[..., Path]) -> None:
        path = written(self.TWO.replace("ids) =>", "mask) =>").replace("int64[N, T] mask", "float[N, H] mask"))
        assert load_onnx(path, {"x": (4, 3, 9, 9)}).inputs == {"x": (4, 3, 9, 9), "mask": (4, 9)}

    @pytest.mark.parametrize(
        ("inputs", "complaint"),
        [
            (["x=1x4x8x8", "ids=1x5"], "`inputs` x=1x4x8x8 does not fit x, which is Nx3xHxH: 3 is fixed"),
            (["x=1x3x8", "ids=1x5"], "it has 4 dimensions, not 3"),
            (["x=1x3x8x9", "ids=1x5"], "H is 8 elsewhere"),
            (["x=2x3x8x8", "ids=1x5"], "N is 2 elsewhere"),
            (["y=1x3x8x8"], "`inputs` y=1x3x8x8 names no input; its inputs are x, ids"),
            (["1x3x8x8"], "`inputs` 1x3x8x8 does not say for which input; its inputs are x, ids"),
            (["1", "1", "1"], "`inputs` is given 3 times; its inputs are x, ids"),
            (["x=1x3x8x8", "ids=1x5:int32"], "asks for int32, but ids is int64"),
        ],
    )
    def test_bad(self, inputs: object, complaint: str, written: Callable[..., Path]) -> None:
        assert complaint in refusal(written(self.TWO), inputs=inputs)

    def test_unknown_rank(self, written: Callable[..., Path]) -> None:
        def forget(proto: onnx.ModelProto) -> None:
            proto.graph.input[0].type.tensor_type.ClearField("shape")

        path = written(LINEAR, forget)
        assert "nothing is known of the shape of input x; give `inputs` x=SHAPE" in refusal(path)
        assert load_onnx(path, "5x4").inputs == {"x": (5, 4)}

    def test_negative_sizes_are_unknown_ones(self, written: Callable[..., Path]) -> None:
        def negate(proto: onnx.ModelProto) -> None:
            proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1

        assert load_onnx(written(LINEAR, negate)).inputs == {"x": (1, 4)}

    def test_sequences_are_refused(self, written: Callable[..., Path]) -> None:
        text = HEADER + "g (seq(float[2]) x) => (float[2] y) { y = ConcatFromSequence <axis = 0> (x) }"
        assert "slimnet feeds tensors only" in refusal(written(text))


def test_nothing_is_written_when_the_result_is_invalid(written: Callable[..., Path], tmp_path: Path) -> None:
    model = load_onnx(written(LINEAR)).model
    model.graph[0].op_type = "Concat"
    with pytest.raises(SlimnetError, match=r"out\.onnx: the network is not valid ONNX"):
        save_onnx(model, tmp_path / "out" / "out.onnx")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("file", sorted(Path(onnx.__file__).parent.glob("backend/test/data/light/*.onnx")))
def test_light_models_of_the_onnx_package(file: Path) -> None:
    assert list(load(file).inputs.values()) == [(1, 3, 224, 224)]


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(BadInput, match=r"net\.tflite: its kind is not known; slimnet reads \.onnx"):
        load("net.tflite")


def test_arch_has_no_use_for_onnx(written: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="brings its own graph, so `arch` torchvision:resnet18 has no use"):
        load(written(LINEAR), arch="torchvision:resnet18")


def test_initializers_are_plain_arrays(written: Callable[..., Path]) -> None:
    tensor = load_onnx(written(LINEAR)).model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.Tensor)
    assert tensor.numpy() is tensor.numpy()
