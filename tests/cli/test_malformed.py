"""Files that no runtime could run or no memory hold, and errors nobody expected: one line, and nothing written."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from slimnet.graph import registry
from slimnet.graph.registry import Entry, Trait
from slimnet.pipeline import trace as verb
from tests.networks.damaged import damaged
from tests.networks.files import refused, saved, tree
from tests.networks.graphs import from_text, net
from tests.networks.named import CNN
from tests.networks.sketch import IMAGE, TOKENS, sketch

QUICK = ("--bench-seconds", "0", "--round-to", "none")


@pytest.mark.parametrize(("group", "weight"), [(0, "8,8"), (-1, "8,8"), (3, "8,8"), (2, "8,8"), (4, "6,2"), (2, "8,0")])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_groups_that_do_not_fit(slimnet, tmp_path, group, weight, op):
    file = saved(
        tmp_path / "in" / "broken.onnx",
        f"""(float[1,7,5,5] x) => (float[1,4,A,B] y) <float[{weight},1,1] w, float[4,8,1,1] v>
        {{ a = {op}<group={group}>(x, w)  y = Conv(a, v) }}""",
        annotate=False,
    )
    line = refused(slimnet, "prune", file, *QUICK)
    assert f"in/broken.onnx: node a ({op}): {group} groups do not fit its 7 input channels" in line
    assert "give other --input, or export the model again" in line


def test_a_kernel_that_is_larger_than_the_picture(slimnet, tmp_path):
    file = saved(
        tmp_path / "in" / "small.onnx",
        """(float[1,4,W] x) => (float[1,4,B] y) <float[8,4,3] w, float[4,8,1] v>
        { a = Conv<dilations=[100]>(x, w)  y = Conv(a, v) }""",
        annotate=False,
    )
    line = refused(slimnet, "prune", file, "--input", "1x4x16", *QUICK)
    assert "the output of node a (Conv) would have the shape 1x8x-184 where the inputs are x=1x4x16" in line
    assert "give larger --input" in line
    assert slimnet("prune", file, "--input", "1x4x232", "-o", "out", *QUICK).code == 0


SMALL = """(float[T,8] x) => (float[T,4] y) <float[8,16] w, float[16,4] v, float[4,5] wide,
    int64[2] many = {4, 5}, int64[2] long = {4, 1}, int64[2] flat = {1, 5}, int64[1] one = {1},
    int64[1,2] pair = {1, 2}, int64[4] amounts = {0, 1, 1, 0}, int64 start = {0}, int64 end = {7}, int64 step = {1},
    int64[2] positions = {0, 1}, int64[2] on_off = {0, 1}> {
    s = Shape(x)  %s  f = Cast<to=1>(big)  r = ReduceSum<keepdims=0>(f)  a = MatMul(x, w)  c = Add(a, r)
    y = MatMul(c, v) }"""
LARGE = {
    "many": [10**9, 10**6],
    "long": [10**6, 1],
    "flat": [1, 10**9],
    "amounts": [0, 10**9, 10**6, 0],
    "end": 10**15,
}


@pytest.mark.parametrize(
    "huge",
    [
        "big = ConstantOfShape(many)",
        "big = Expand(one, many)",
        "big = Tile(pair, many)",
        "big = Pad(pair, amounts)",
        "big = Pad(wide, amounts)",
        "big = Range(start, end, step)",
        "big = Resize(wide, , , many)",
        "big = OneHot(positions, end, on_off)",
        "column = Expand(one, long)  row = Expand(one, flat)  big = Mul(column, row)",
    ],
)
def test_sizes_that_no_memory_holds(slimnet, tmp_path, huge):
    model = ir.to_proto(from_text(SMALL % huge, annotate=False))
    for tensor in model.graph.initializer:
        if tensor.name in LARGE:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(LARGE[tensor.name]), tensor.name))
    (tmp_path / "in").mkdir()
    onnx.save(model, tmp_path / "in" / "huge.onnx")
    assert "GiB of memory" in refused(slimnet, "prune", "in/huge.onnx", "--input", "1x8", *QUICK)


@pytest.mark.parametrize("verb", ["prune", "trace", "bench", "eval"])
def test_an_input_that_no_memory_holds(slimnet, tmp_path, verb):
    file = saved(
        tmp_path / "in" / "huge.onnx",
        """(float[1,3,1000000,1000000] x) => (float[1,4,A,B] y) <float[8,3,3,3] w, float[4,8,3,3] v>
        { a = Conv(x, w)  b = Relu(a)  y = Conv(b, v) }""",
        annotate=False,
    )
    line = refused(slimnet, verb, file, *(("--data", "digits") if verb == "eval" else ()))
    assert "GiB of memory" in line or verb == "eval"


def test_an_input_may_be_given_smaller(slimnet, tmp_path):
    file = saved(
        tmp_path / "in" / "large.onnx",
        "(float[1,3,H,W] x) => (y) <float[8,3,3,3] w, float[4,8,3,3] v> { a = Conv(x, w)  y = Conv(a, v) }",
        annotate=False,
    )
    assert "1x3x9000000x9000000" in refused(slimnet, "prune", file, "--input", "1x3x9000000x9000000", *QUICK)
    assert slimnet("prune", file, "--input", "1x3x9x9", "-o", "out", *QUICK).code == 0


def test_a_graph_without_a_name_gets_that_of_its_file(slimnet, tmp_path):
    model = ir.to_proto(from_text(CNN))
    model.graph.name = ""
    onnx.save(model, tmp_path / "anonymous.onnx")
    assert slimnet("prune", "anonymous.onnx", "-o", "out", *QUICK).code == 0
    assert onnx.load(tmp_path / "out" / "slim.onnx").graph.name == "anonymous"


def test_nodes_in_the_wrong_order_beside_an_operator_that_the_checker_does_not_know(slimnet, tmp_path):
    """The checker stops at what it does not know, and sees nothing of the rest."""
    model = ir.to_proto(from_text("(float[1,4] x) => (float[1,4] y) { a = own.Mystery(x)  b = Relu(a)  y = Relu(b) }"))
    model.graph.node[1].input[0], model.graph.node[0].domain, model.graph.node[0].op_type = "y", "", "Mystery"
    (tmp_path / "in").mkdir()
    onnx.save(model, tmp_path / "in" / "order.onnx")
    assert "reads y, which nothing has made before it" in refused(slimnet, "trace", "in/order.onnx")


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_are_told_in_one_line(slimnet, tmp_path, part):
    (tmp_path / "in").mkdir()
    for seed in range(25 * part, 25 * part + 25):
        r = random.Random(seed)
        steps = [(r.choice(sorted({*IMAGE, *TOKENS})), r.randrange(99)) for _ in range(4)]
        dense = net(CNN) if seed % 5 == 0 else sketch(steps, seed)
        Path("in/damaged.onnx").write_bytes(damaged(ir.to_proto(dense.model).SerializeToString(), seed))
        before = tree(Path.cwd())
        outcome = slimnet(*(("shrink", *QUICK[:2]) if seed % 3 == 0 else ("trace",)), "in/damaged.onnx")
        assert outcome.code in (0, 2), (seed, outcome.err)
        assert outcome.code == 0 or (outcome.line and tree(Path.cwd()) == before)


def test_a_rule_that_fails_pins_what_its_node_reads(monkeypatch, slimnet, cnn):
    def rule(op):
        raise KeyError("surprise")

    monkeypatch.setitem(registry._TABLE, ("", "Relu"), [Entry(1, rule, Trait(0))])
    outcome = slimnet("trace", cnn, "--all")
    assert outcome.code == 0
    assert "its rule failed (KeyError: 'surprise')" in " ".join(outcome.out.split())


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), MemoryError(), RecursionError("too deep\nand on")])
def test_an_error_that_nobody_expected_is_one_line_and_a_file(monkeypatch, slimnet, cnn, tmp_path, error):
    def fails(*_):
        raise error

    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "logs"))
    monkeypatch.setattr(verb, "trace", fails)
    outcome = slimnet("trace", cnn)
    assert outcome.code == 70
    (log,) = (tmp_path / "logs").iterdir()
    first = str(error).split("\n")[0] or "MemoryError"
    told = f"unexpected {type(error).__name__}: {first}. Please report it with {log}, which tells where it happened"
    assert outcome.line == f"slimnet: {told}"
    text = log.read_text()
    assert "slimnet trace" in text
    assert "Traceback (most recent call last)" in text
    assert type(error).__name__ in text


def test_where_no_file_can_be_written_the_line_says_so(monkeypatch, slimnet, cnn, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(verb, "trace", lambda *_: 1 / 0)
    assert "no file could be written that tells more" in slimnet("trace", cnn).line
