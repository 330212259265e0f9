"""slimnet prune: from a file to a folder, with exit codes and JSON that programs can rely on."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import slimnet as package
from slimnet.graph import surgery
from tests.networks.files import DIGITS, ROOT, saved, tree

QUICK = ("--bench-seconds", "0")
FILES = ("slim.onnx", "plan.json", "report.json", "report.html")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The first command of the README, as a process of its own: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("digits")
    command = [sys.executable, "-m", "slimnet", "prune", "--method", "l1", "--ratio", "0.5", DIGITS]
    done = subprocess.run(
        [*command, "--bench-seconds", "0.2", "--json"], cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "digits_resnet-slim", done


def test_json_is_the_report_and_nothing_else(digits):
    folder, done = digits
    assert done.stdout == (folder / "report.json").read_text()
    assert done.stderr == ""
    assert json.loads(done.stdout)["model"] == "digits_resnet"


def test_files_of_a_run(digits):
    folder, _ = digits
    assert set(tree(folder.parent)) == {
        folder.name,
        *(f"{folder.name}/{name}" for name in FILES),
        f"{folder.name}/slim.safetensors",
        f"{folder.name}/recovered.safetensors",
    }
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert set(modes.values()) == {modes["report.json"]}, "whoever may read one file may read the others"


def test_report_has_the_documented_keys(digits):
    report = json.loads((digits[0] / "report.json").read_text())
    pair = {"before", "after"}
    assert report["params"].keys() == report["macs"].keys() == pair
    assert report["accuracy"].keys() == {"before", "pruned", "recovered", "after"}
    assert report["params"]["after"] < 0.3 * report["params"]["before"]
    assert report["macs"]["after"] < 0.3 * report["macs"]["before"]
    assert report["speedup"].keys() == {"flops", "latency", "efficiency"}
    assert report["speedup"]["flops"] == pytest.approx(report["macs"]["before"] / report["macs"]["after"])
    assert report["speedup"]["efficiency"] == pytest.approx(report["speedup"]["latency"] / report["speedup"]["flops"])
    for side in pair:
        assert report["latency_ms"][side].keys() == {"median", "p90", "runs"}
        assert 0 < report["latency_ms"][side]["median"] <= report["latency_ms"][side]["p90"]
        assert 0 <= report["accuracy"][side] <= 1
    assert report["accuracy"]["before"] > 0.95
    assert {"max_abs_error", "max_rel_error", "exact"} <= report["verify"].keys()
    assert report["verify"]["exact"] is True
    assert report["verify"]["unproven"] == []
    assert {"load", "trace", "score", "plan", "slim", "verify", "bench"} <= report["timing_s"].keys()
    assert all(seconds >= 0 for seconds in report["timing_s"].values())
    for group in report["groups"]:
        assert group.keys() == {"name", "kind", "before", "after", "proven", "tensors", "scores"}
        assert 0 < group["after"] < group["before"]
    for pin in report["pinned"]:
        assert pin.keys() == {"units", "tensor", "axis", "op", "node", "why"}
        assert pin["why"]
    assert report["torch"] == {"survives": True, "why": None} or report["torch"]["survives"] is True


def test_the_small_network_and_the_small_module_agree(digits):
    folder, _ = digits
    onnx.checker.check_model(str(folder / "slim.onnx"))
    x = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    session = ort.InferenceSession(folder / "slim.onnx")
    (logits,) = session.run(None, {session.get_inputs()[0].name: x})
    module = package.load_slim(folder)
    assert torch.allclose(module(torch.from_numpy(x)), torch.from_numpy(logits), atol=1e-5)
    weights = sum(p.numel() for p in module.parameters())
    assert weights == json.loads((folder / "report.json").read_text())["params"]["after"]


# -- one file in, one folder out -------------------------------------------------------------------------------------


def test_the_folder_is_named_after_the_model(slimnet, cnn, tmp_path):
    assert slimnet("prune", cnn, *QUICK).code == 0
    assert {file.name for file in (tmp_path / "cnn-slim").iterdir()} == set(FILES)


def test_the_same_command_gives_the_same_network(slimnet, cnn, tmp_path):
    for out in ("a", "b"):
        assert slimnet("prune", cnn, "-o", out, "--method", "random", "--option", "seed=3", *QUICK).code == 0
    assert (tmp_path / "a" / "slim.onnx").read_bytes() == (tmp_path / "b" / "slim.onnx").read_bytes()


def test_no_timing_without_seconds(slimnet, cnn):
    report = json.loads(slimnet("prune", cnn, "--json", *QUICK).out)
    assert report["latency_ms"] == {"before": None, "after": None}
    assert report["speedup"]["latency"] is None
    assert "bench" not in report["timing_s"]


def test_ratio_is_taken_from_every_group(slimnet, cnn):
    outcome = slimnet(
        "prune", cnn, "--ratio", "0.25", "--round-to", "none", "--ratio-for", "conv2=0.5", "--json", *QUICK
    )
    report = json.loads(outcome.out)
    assert {g["name"]: (g["before"], g["after"]) for g in report["groups"]} == {"conv1": (8, 6), "conv2": (12, 6)}


def test_ignored_layers_stay_dense(slimnet, cnn):
    report = json.loads(slimnet("prune", cnn, "--ignore", "conv1", "--round-to", "none", "--json", *QUICK).out)
    assert [g["after"] for g in report["groups"]] == [8, 6]


def test_widths_are_rounded(slimnet, cnn):
    report = json.loads(slimnet("prune", cnn, "--round-to", "4", "--ratio", "0.4", "--json", *QUICK).out)
    assert {g["after"] % 4 for g in report["groups"]} == {0}


@pytest.mark.parametrize("method", ["l1", "l2", "bn-gamma", "bn-beta", "gm", "fermat", "random"])
def test_every_method_runs(slimnet, cnn, method):
    report = json.loads(slimnet("prune", cnn, "--method", method, "--json", *QUICK).out)
    assert report["method"] == method
    assert report["verify"]["exact"]
    assert report["params"]["after"] < report["params"]["before"]


def test_a_group_the_method_cannot_rank_is_named(slimnet, cnn):
    report = json.loads(slimnet("prune", cnn, "--method", "bn-gamma", "--json", *QUICK).out)
    assert report["notes"] == ["conv2: bn-gamma cannot rank it, left dense"]


def test_data_give_the_accuracy(slimnet, cnn, tmp_path):
    x = np.random.default_rng(0).standard_normal((20, 3, 8, 8), np.float32)
    session = ort.InferenceSession(cnn)
    y = session.run(None, {"x": x})[0].argmax(axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    report = json.loads(slimnet("prune", cnn, "--data", "data.npz", "--json", *QUICK).out)
    assert report["accuracy"]["before"] == 1
    (logits,) = ort.InferenceSession(tmp_path / "cnn-slim" / "slim.onnx").run(None, {"x": x})
    assert report["accuracy"]["after"] == pytest.approx((logits.argmax(axis=1) == y).mean())


def test_few_data_are_enough_to_verify_on(slimnet, cnn, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((9, 3, 8, 8), np.float32), y=np.zeros(9, np.int64))
    outcome = slimnet("prune", cnn, "--input", "8x3x8x8", "--data", "data.npz", "--json", *QUICK)
    assert json.loads(outcome.out)["verify"]["inputs"][0] == "given"


def test_dynamic_axes_survive(slimnet, cnn, tmp_path):
    assert slimnet("prune", cnn, "-o", "out", *QUICK).code == 0
    session = ort.InferenceSession(tmp_path / "out" / "slim.onnx")
    assert session.run(None, {"x": np.zeros((7, 3, 8, 8), np.float32)})[0].shape == (7, 5)


def test_external_data_are_read(slimnet, cnn, tmp_path):
    onnx.save(onnx.load(cnn), tmp_path / "split.onnx", save_as_external_data=True, location="w", size_threshold=0)
    assert slimnet("prune", "split.onnx", "-o", "out", *QUICK).code == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == set(FILES)


# -- what a terminal shows -------------------------------------------------------------------------------------------


def test_summary_fits_eighty_columns(slimnet, cnn):
    outcome = slimnet("prune", cnn, "-o", "out", "--bench-seconds", "0.1")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "..." not in outcome.out
    assert "…" not in outcome.out
    for words in ("parameters", "MACs", "latency (median)", "of what MACs promise", "slim = masked", "2 of 2"):
        assert words in outcome.out
    assert lines[-1] == "written to out"
    assert outcome.err == ""


# -- a wrong network is never delivered ------------------------------------------------------------------------------


@pytest.fixture
def broken(monkeypatch):
    """Surgery that spoils a weight of the slim network."""
    right = surgery.slim

    def wrong(trace, removed):
        model = right(trace, removed)
        value = next(v for v in model.graph.initializers.values() if v.name.startswith("conv2"))
        array = value.const_value.numpy().copy()
        array[0] += 1
        value.const_value = type(value.const_value)(array, name=value.name)
        return model

    monkeypatch.setattr(surgery, "slim", wrong)


@pytest.mark.usefixtures("broken")
def test_a_wrong_network_is_not_delivered(slimnet, cnn, tmp_path):
    before = tree(tmp_path)
    outcome = slimnet("prune", cnn, "-o", "out/deep", *QUICK)
    assert outcome.code == 3
    assert "differs from the masked one by" in outcome.line
    assert "nothing was written" in outcome.line
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("broken")
def test_a_wrong_network_leaves_an_earlier_result_alone(slimnet, cnn, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (*FILES, "slim.safetensors", "notes.txt"):
        (tmp_path / "out" / name).write_text(f"old {name}")
    before = tree(tmp_path)
    assert slimnet("prune", cnn, "-o", "out", *QUICK).code == 3
    assert tree(tmp_path) == before


def test_a_new_result_replaces_an_earlier_one_and_nothing_else(slimnet, cnn, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "slim.safetensors").write_text("of an earlier run, with a plan that is gone")
    assert slimnet("prune", cnn, "-o", "out", *QUICK).code == 0
    assert set(tree(tmp_path / "out")) == {*FILES, "notes.txt"}


def test_a_group_that_moves_nothing_is_named(slimnet, tmp_path):
    dead = """(float[N,8] x) => (float[N,4] y) <float zero = {0}, float[8,6] first, float[6,6] second, float[6,4] v>
        { a = Mul(x, zero) b = MatMul(a, first) c = Relu(b) d = MatMul(c, second) e = Relu(d) y = MatMul(e, v) }"""
    outcome = slimnet("prune", saved(tmp_path / "dead.onnx", dead), *QUICK)
    assert outcome.code == 0
    assert "unproven" in outcome.out
    assert "first, second" in outcome.out
    assert "exact" not in outcome.out


def test_what_is_written_is_valid_in_the_opset_that_was_read(slimnet, tmp_path):
    """Folding the computed target, the optimiser must not write the `allowzero` that Reshape has since opset 14."""
    file = saved(
        tmp_path / "old.onnx",
        """(float[T,8] x) => (float[1,M] y) <int64[1] one = {1}, int64 zero = {0}, int64 six = {6},
            float[8,16] w, float[16] b, float[16,6] v, float[6] e> {
            a = Gemm(x, w, b)  c = Relu(a)  d = Gemm(c, v, e)  s = Shape(x)  t = Gather(s, zero)  n = Mul(t, six)
            u = Unsqueeze<axes=[0]>(n)  k = Concat<axis=0>(one, u)  y = Reshape(d, k) }""",
        opset=12,
    )
    assert slimnet("prune", file, "-o", "out", *QUICK).code == 0
    written = onnx.load("out/slim.onnx")
    assert written.opset_import[0].version == 12
    onnx.checker.check_model(written, full_check=True)


def test_trace_and_report_say_which_way_it_went(slimnet, tmp_path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)\n"
        "    def forward(self, x):\n"
        "        return self.b(self.a(x).relu() if x.sum() > 0 else self.a(x))\n"
    )
    sizes = {"a.weight": (8, 4), "a.bias": (8,), "b.weight": (2, 8), "b.bias": (2,)}
    torch.save({name: torch.randn(size) for name, size in sizes.items()}, tmp_path / "net.pt")
    given = (tmp_path / "net.pt", "--arch", f"{tmp_path / 'net.py'}:Net", "--input", "1x4")
    (note,) = json.loads(slimnet("trace", *given, "--json").out)["notes"]
    assert note.startswith("recorded by TorchScript")
    assert note.endswith("net.py:7")
    assert "".join(note.split()) in "".join(slimnet("trace", *given).out.split())
    outcome = slimnet("prune", *given, *QUICK, "--json")
    assert json.loads(outcome.out)["notes"] == [note]
