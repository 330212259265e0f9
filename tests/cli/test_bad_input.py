"""Everything a user can get wrong: exit code 2, one line that says what and what to do, and nothing written."""

import os
import signal

import numpy as np
import onnx
import pytest
import torch

from slimnet.verification.verify import verify
from tests.networks.files import DIGITS, refused, saved
from tests.networks.modules import mlp
from tests.networks.named import CNN, PINNED

QUICK = ("--bench-seconds", "0")


@pytest.mark.parametrize("verb", ["prune", "trace", "shrink"])
def test_missing_file(slimnet, verb):
    assert refused(slimnet, verb, "nothing.onnx") == "slimnet: nothing.onnx: no such file; check the path"


def test_every_file_of_a_verb_is_looked_for(slimnet, cnn):
    assert "plan.json: no such file" in refused(slimnet, "slim", cnn, "--plan", "plan.json")
    assert "masks.npz: no such file" in refused(slimnet, "slim", cnn, "--mask", "masks.npz")
    assert "data.npz: no such file" in refused(slimnet, "prune", cnn, "--data", "data.npz")
    assert "plan.json: no such file" in refused(slimnet, "verify", cnn, cnn, "--plan", "plan.json")
    assert "slim.onnx: no such file" in refused(slimnet, "bench", cnn, "slim.onnx")
    assert "base.json: no such file" in refused(slimnet, "bench", cnn, "--baseline", "base.json")


def test_truncated_file(slimnet, cnn):
    cnn.write_bytes(cnn.read_bytes()[:-500])
    assert "cnn.onnx: is not an ONNX file, or is truncated" in refused(slimnet, "prune", cnn)


def test_no_onnx_at_all(slimnet, tmp_path):
    file = tmp_path / "notes.onnx"
    file.write_text("This is a shopping list: eggs, milk.\n")
    assert "notes.onnx: is not an ONNX file, or is truncated" in refused(slimnet, "prune", file)


def test_unknown_kind_of_file(slimnet, tmp_path):
    file = tmp_path / "model.h5"
    file.touch()
    assert "model.h5: its kind is not known; slimnet reads .onnx, .pt2, .pt" in refused(slimnet, "trace", file)


def test_missing_external_data(slimnet, tmp_path, cnn):
    proto = onnx.load(cnn)
    file = tmp_path / "split.onnx"
    onnx.save(proto, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    line = refused(slimnet, "prune", file)
    assert "split.onnx" in line
    assert "weights.bin is missing; put it beside the model" in line


@pytest.mark.parametrize("words", [("-o", ""), ("--out=",), ("--ratio", "")])
def test_empty_values_as_unset_variables_of_a_shell_leave_them(slimnet, cnn, words):
    assert f"{words[0].rstrip('=')}: is empty; give a value, or leave it out" in refused(slimnet, "prune", cnn, *words)
    assert "an argument: is empty" in refused(slimnet, "prune", "")


def test_what_is_no_option_and_no_verb_is_told_in_one_line(slimnet, cnn):
    assert "No such option: --ratioo" in (line := refused(slimnet, "prune", cnn, "--ratioo", "1"))
    assert line.endswith("`slimnet prune --help` lists what there is")
    assert "Did you mean 'prune'" in (line := refused(slimnet, "prun"))
    assert line.endswith("`slimnet --help` lists what there is")
    assert "Missing argument 'model'" in refused(slimnet, "prune")


def test_without_words_the_help_is_shown(slimnet):
    shown = slimnet()
    assert (shown.code, shown.err) == (2, "")
    assert "Start with: slimnet prune model.onnx" in " ".join(shown.out.split())


def test_far_more_threads_than_cores(slimnet, cnn, monkeypatch):
    monkeypatch.setattr("slimnet.runtime.onnxruntime.cores", lambda: 4)
    assert "--threads 257: is too many for 4 cores; give at most 256" in refused(
        slimnet, "prune", cnn, "--threads", "257"
    )


@pytest.fixture
def handlers():
    """Signals are handled as before when a test is over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("number", "code", "how"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")]
)
def test_a_process_that_is_asked_to_end_leaves_nothing(slimnet, cnn, tmp_path, monkeypatch, number, code, how):
    def end(*args, **kwargs):
        assert list(tmp_path.glob(".slimnet-*"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr("slimnet.pipeline.export.verify", end)
    signal.signal(number, signal.SIG_DFL)
    ended = slimnet("prune", cnn, "-o", "out", *QUICK)
    assert (ended.code, ended.line) == (code, f"slimnet: {how}")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.usefixtures("handlers")
def test_a_process_under_nohup_goes_on_when_its_terminal_closes(slimnet, cnn, tmp_path, monkeypatch):
    def verified(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGHUP)
        return verify(*args, **kwargs)

    monkeypatch.setattr("slimnet.pipeline.export.verify", verified)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert slimnet("prune", cnn, "-o", "out", *QUICK).code == 0
    assert (tmp_path / "out" / "slim.onnx").exists()


# -- checkpoints -----------------------------------------------------------------------------------------------------


def test_checkpoint_without_arch(slimnet, tmp_path):
    torch.save(mlp().state_dict(), tmp_path / "tiny.pt")
    line = refused(slimnet, "prune", "tiny.pt", "--input", "1x1x8x8")
    assert "tiny.pt" in line
    assert "--arch" in line


def test_state_dict_that_does_not_fit(slimnet, tmp_path):
    torch.save(mlp().state_dict(), tmp_path / "tiny.pt")
    line = refused(slimnet, "prune", "tiny.pt", "--arch", "models:lenet5", "--input", "1x1x28x28")
    assert "1.weight" in line
    assert "models:lenet5" in line


def test_pickle_without_the_flag(slimnet, tmp_path):
    torch.save(mlp(), tmp_path / "tiny.pt")
    line = refused(slimnet, "prune", "tiny.pt", "--input", "1x1x8x8")
    assert "tiny.pt" in line
    assert "--unsafe-pickle" in line


def test_truncated_checkpoint(slimnet, tmp_path):
    (tmp_path / "digits.pt").write_bytes(DIGITS.read_bytes()[:5000])
    assert "digits.pt" in refused(slimnet, "prune", "digits.pt")


def test_unknown_architecture(slimnet):
    line = refused(slimnet, "prune", "--arch", "models:resnet9000", DIGITS)
    assert "models:resnet9000" in line


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", ["0", "1", "1.5", "-0.1", "nan"])
def test_ratio_outside_its_range(slimnet, cnn, ratio):
    assert f"--ratio {float(ratio):g} is not between 0 and 1" in refused(slimnet, "prune", cnn, f"--ratio={ratio}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "magic"), "method 'magic' is not known; choose one of: l1, l2"),
        (("--option", "seed=1"), "method 'l1' has no option 'seed'"),
        (("--option", "seed"), "--option seed: write it as NAME=VALUE"),
        (("--method", "random", "--option", "seed=many"), "seed"),
        (("--scope", "world"), "'world' is not known; choose one of: layer, global, isomorphic"),
        (("--round-to", "soft"), "--round-to soft: give auto, none, or a number from 1 to 1000000"),
        (("--round-to", "0"), "--round-to 0: give auto, none, or a number from 1 to 1000000"),
        (("--round-to", "9" * 20), f"--round-to {'9' * 20}: give auto, none, or a number from 1 to 1000000"),
        (("--round-to", "9" * 5000), "give auto, none, or a number from 1 to 1000000"),
        (("--round-to", "\N{SUPERSCRIPT TWO}"), "give auto, none, or a number from 1 to 1000000"),
        (("--input", "1x" + "9" * 5000), "is not a shape"),
        (("--seed", "-1"), "Invalid value for '--seed': Input should be greater than or equal to 0"),
        (("--seed", str(2**32)), "Invalid value for '--seed': Input should be less than or equal to 4294967295"),
        (("--batch-size", "9" * 20), "Invalid value for '--batch-size': Input should be less than or equal to 1000000"),
        (("--epochs", "9" * 20), "Invalid value for '--epochs': Input should be less than or equal to 1000000"),
        (("--method", "random", "--option", "seed=-1"), "method 'random': option seed=-1 is negative; give 0 or more"),
        (("--method", "random", "--option", "seed=" + "9" * 20), "option seed=1e+20 is not of type int"),
        (("--train", "accumulate=" + "9" * 20), "training setting accumulate=1e+20 is not of type int"),
        (("--train", "accumulate=1000001"), "accumulate 1000001: must be at most 1000000"),
        (("--ignore", "layer9"), "'layer9' matches nothing"),
        (("--ratio-for", "layer9=0.5"), "'layer9' names no removable filters"),
        (("--ratio-for", "conv1=2"), "'conv1': 2 is not between 0 and 1"),
        (("--ratio-for", "conv1=half"), "--ratio-for conv1=half: half is not a number"),
        (("--ratio-for", "conv1"), "--ratio-for conv1: write it as NAME=VALUE"),
        (("--heads", "--head-dims"), "--heads and --head-dims exclude each other"),
        (("--input", "1x4x8x8"), "--input 1x4x8x8 does not fit x, which is Nx3x8x8: 3 is fixed"),
        (("--input", "1x3x8"), "it has 4 dimensions, not 3"),
        (("--input", "big"), "--input big: is not a shape"),
        (("--input", "z=1x3x8x8"), "--input z=1x3x8x8 names no input; its inputs are x"),
        (("--arch", "torchvision:resnet18"), "--arch torchvision:resnet18 has no use"),
        (("--ignore", "*"), "nothing is left to remove"),
        (("--data", "cnn.onnx"), "cnn.onnx"),
    ],
    ids=lambda given: " ".join(given)[:40] if isinstance(given, tuple) else "",
)
def test_wrong_option(slimnet, cnn, words, says):
    assert says in refused(slimnet, "prune", cnn, *words, *QUICK)


@pytest.mark.parametrize("seconds", ["inf", "1e9", "nan"])
def test_nothing_is_measured_for_more_than_a_day(slimnet, cnn, seconds):
    assert "Invalid value for '--bench-seconds'" in refused(slimnet, "prune", cnn, "--bench-seconds", seconds)
    assert "Invalid value for '--seconds'" in refused(slimnet, "bench", cnn, cnn, "--seconds", seconds)


def test_more_runs_than_anybody_waits_for(slimnet, cnn):
    line = refused(slimnet, "verify", cnn, cnn, "--plan", "plan.json", "--runs", "9" * 20)
    assert "Invalid value for '--runs': Input should be less than or equal to 1000000" in line


def test_criterion_that_needs_a_batch_norm(slimnet, tmp_path):
    file = saved(
        tmp_path / "plain.onnx",
        """(float[1,3,8,8] x) => (y) <float[8,3,3,3] conv1, float[5,8,3,3] conv2>
        { a = Conv(x, conv1) b = Relu(a) y = Conv(b, conv2) }""",
    )
    line = refused(slimnet, "prune", file, "--method", "bn-gamma")
    assert "bn-gamma" in line
    assert "batch norm" in line.lower()


@pytest.mark.parametrize("verb", ["prune", "shrink", "slim"])
def test_data_that_does_not_fit(slimnet, cnn, tmp_path, verb):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 1, 5, 5), np.float32), y=np.zeros(4, np.int64))
    np.savez(tmp_path / "masks.npz", conv1=np.arange(8) < 4)
    words = ("--mask", "masks.npz") if verb == "slim" else ()
    line = refused(slimnet, verb, cnn, "--data", "data.npz", *words, *QUICK)
    assert "--data" in line or verb == "shrink"


# -- networks --------------------------------------------------------------------------------------------------------


def test_nothing_to_prune(slimnet, tmp_path):
    file = saved(tmp_path / "one.onnx", PINNED)
    assert "nothing can be removed" in refused(slimnet, "prune", file)


def test_nothing_to_shrink(slimnet, cnn):
    assert "no channel is zero" in refused(slimnet, "shrink", cnn)
    for flags in (["--absorb"], ["--assume-masked"], ["--gather"], ["--gather", "--absorb"]):
        line = refused(slimnet, "shrink", cnn, *flags, *QUICK)
        assert "no channel is zero everywhere it matters" in line
        assert ("no layer skips enough of what it reads" in line) == ("--gather" in flags)


def test_network_without_any_weight(slimnet, tmp_path):
    file = saved(tmp_path / "relu.onnx", "(float[1,4] x) => (y) { y = Relu(x) }")
    assert "nothing can be removed" in refused(slimnet, "prune", file)


def test_custom_operator_that_the_runtime_does_not_know(slimnet, tmp_path):
    """It is traced, with its channels pinned, but nothing can be proven of it."""
    file = saved(
        tmp_path / "custom.onnx",
        """(float[1,3,8,8] x) => (float[1,6,8,8] y) <float[8,3,1,1] w, float[6,8,1,1] v>
        { a = Conv(x, w) b = Relu(a) c = Conv(b, v) y = own.Mystery(c) }""",
        annotate=False,
    )
    outcome = slimnet("trace", file, "--json")
    assert outcome.code == 0
    assert "Mystery" in outcome.out
    line = refused(slimnet, "prune", file, *QUICK)
    assert "Mystery" in line


# -- output ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["prune", "shrink", "slim"])
def test_output_folder_that_cannot_be_made(slimnet, cnn, tmp_path, verb):
    """Not even root can make a folder below a file."""
    (tmp_path / "file").write_text("mine")
    np.savez(tmp_path / "masks.npz", conv1=np.arange(8) < 4)
    words = ("--mask", "masks.npz") if verb == "slim" else ()
    line = refused(slimnet, verb, cnn, "-o", "file/out", *words)
    assert "file/out: cannot be written" in line
    assert "choose another" in line


def test_output_folder_that_is_a_file(slimnet, cnn, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file: cannot be written" in refused(slimnet, "prune", cnn, "-o", "file", *QUICK)


def test_output_that_would_replace_the_model(slimnet, cnn, tmp_path):
    assert slimnet("prune", cnn, "-o", "out", *QUICK).code == 0
    line = refused(slimnet, "prune", "out/slim.onnx", "-o", "out", *QUICK)
    assert "out/slim.onnx: is the model itself" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_without_permission(slimnet, cnn, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked/out: cannot be written" in refused(slimnet, "prune", cnn, "-o", "locked/out", *QUICK)


# -- plans and masks -------------------------------------------------------------------------------------------------


def test_neither_plan_nor_mask(slimnet, cnn):
    assert "one of --plan" in refused(slimnet, "slim", cnn)
    assert "one of --plan" in refused(slimnet, "slim", cnn, "--plan", "a", "--mask", "b")


def test_broken_plan(slimnet, cnn, tmp_path):
    (tmp_path / "plan.json").write_text("{")
    assert "plan.json: not JSON" in refused(slimnet, "slim", cnn, "--plan", "plan.json")


def test_plan_of_another_network(slimnet, cnn, tmp_path):
    assert slimnet("prune", cnn, "-o", "out", *QUICK).code == 0
    other = saved(tmp_path / "other.onnx", CNN.replace("12", "16"))
    for words in (("slim", other), ("verify", other, "out/slim.onnx")):
        line = refused(slimnet, *words, "--plan", "out/plan.json")
        assert "made for another network" in line
        assert "plan.json" in line


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"conv9": np.ones(8, bool)}, "conv9 is no parameter of the network"),
        ({"conv1": np.ones(7, bool)}, "conv1 is bool of shape (7,); give booleans of shape (8, 3, 3, 3) or (8,)"),
        ({"conv1": np.array([0, 8])}, "conv1 is int64 of shape (2,)"),
        ({"conv1": np.array([-1, 2])}, "conv1 is int64 of shape (2,)"),
        ({"conv1": np.ones((8, 3, 3, 3), np.float32)}, "conv1 is float32 of shape (8, 3, 3, 3)"),
        ({"conv1:7": np.ones(8, bool)}, "conv1 has 4 axes"),
        ({"conv1:1": np.arange(3) < 2}, "conv1, axis 1: masks channels that are pinned"),
        ({"fc:1": np.arange(5) < 2}, "fc, axis 1: masks channels that are pinned"),
        ({"conv1": np.ones(8, bool)}, "masks no whole channel"),
        ({"conv1": np.zeros(8, bool)}, "conv1"),
        ({}, "holds no array"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, dict) else "",
)
def test_wrong_mask(slimnet, cnn, tmp_path, masks, says):
    np.savez(tmp_path / "masks.npz", **masks)
    line = refused(slimnet, "slim", cnn, "--mask", "masks.npz", *QUICK)
    assert says in line
    assert "--mask" in line


def test_masks_that_are_pickled(slimnet, cnn, tmp_path):
    np.savez(tmp_path / "masks.npz", conv1=np.array([{"a": 1}], dtype=object))
    assert "masks.npz: is not an .npz file of plain arrays" in refused(slimnet, "slim", cnn, "--mask", "masks.npz")


def test_masks_that_are_a_single_array(slimnet, cnn, tmp_path):
    np.save(tmp_path / "masks.npy", np.ones(8, bool))
    assert "masks.npy: is not an .npz file" in refused(slimnet, "slim", cnn, "--mask", "masks.npy")


# -- bench -----------------------------------------------------------------------------------------------------------


def test_bench_of_models_that_take_different_inputs(slimnet, cnn, tmp_path):
    other = saved(tmp_path / "other.onnx", CNN.replace("[N,3,8,8] x", "[N,3,9,9] x"))
    assert "compare like with like" in refused(slimnet, "bench", cnn, other, "--seconds", "0.1")


def test_bench_with_a_baseline_takes_one_model(slimnet, cnn):
    assert "--baseline compares one model" in refused(slimnet, "bench", cnn, cnn, "--baseline", "base.json")


def test_bench_with_a_tolerance_that_is_none(slimnet, cnn):
    assert slimnet("bench", cnn, "--save", "base.json", "--seconds", "0.1", "--no-layers").code == 0
    assert "lots" in refused(slimnet, "bench", cnn, "--baseline", "base.json", "--tolerance", "lots")
