"""Training from the command line: prune with data, train, run, and what a user may do wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.networks.files import ROOT

NETWORK = """
from torch import nn


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""
DATA = "digits?limit=256&augment=none"
QUICK = ("--bench-seconds", "0", "--no-prove", "--device", "cpu", "--input", "1x1x8x8", "--batch-size", "32")
ARCH = ("--arch", "net.py:small")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network trained for a few epochs."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "net.py").write_text(NETWORK)
    command = ["train", *ARCH, "--data", DATA, "-o", "small.pt", "--epochs", "12", "--lr", "0.1", "--batch-size", "32"]
    done = process(command, folder)
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*.checkpoint"))
    return folder


@pytest.fixture
def small(trained, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


def process(words, folder):
    return subprocess.run([sys.executable, "-m", "slimnet", *words], cwd=folder, capture_output=True, text=True,
                          env=environment())  # fmt: skip


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "slim.safetensors")


@pytest.mark.slow
def test_train_writes_a_checkpoint_that_prune_reads(small):
    content = torch.load(small / "small.pt", weights_only=True)
    assert content["accuracy"] > 0.8
    done = process(["prune", "small.pt", *ARCH, "--data", DATA, "--epochs", "3", "--json", *QUICK], small)
    report = json.loads(done.stdout)
    assert report["accuracy"]["before"] == pytest.approx(content["accuracy"], abs=1e-9)
    assert report["accuracy"]["after"] >= report["accuracy"]["pruned"]
    assert [record["epoch"] for record in report["training"]["finetune"]["epochs"]] == [0, 1, 2]


#: The command line, in a process that kills itself after its third checkpoint.
KILLED = """
import os, signal, sys
from slimnet.cli import main
from slimnet.training import checkpoint

written, save = [], checkpoint.save

def save_and_die(path, content):
    save(path, content)
    written.append(path)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save = save_and_die
main()
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(small):
    words = ["prune", "small.pt", *ARCH, "--method", "greg-2", "--data", DATA, *QUICK, "--sparse-epochs", "12",
             "--epochs", "12"]  # fmt: skip
    assert process([*words, "-o", "whole"], small).returncode == 0
    killed = subprocess.run([sys.executable, "-c", KILLED, *words, "-o", "cut"], cwd=small, env=environment(),
                            capture_output=True)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    checkpoints = small / "cut" / "checkpoints"
    assert (checkpoints / "sparsify.pt").exists()
    assert not (small / "cut" / "slim.onnx").exists()
    done = process([*words, "-o", "cut", "--resume"], small)
    assert done.returncode == 0, done.stderr
    whole, cut = tensors(small / "whole"), tensors(small / "cut")
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not checkpoints.exists()


@pytest.mark.slow
def test_resuming_with_another_ratio_or_method_is_refused(small):
    words = ["prune", "small.pt", *ARCH, "--data", DATA, *QUICK, "-o", "out", "--sparse-epochs", "1", "--epochs", "1"]
    broken = process([*words, "--method", "group-hs", "--train", "finetune.lr=1e30"], small)
    assert broken.returncode == 5
    assert "step" in broken.stderr
    again = process([*words, "--method", "group-hs", "--sparse-lr", "0.5", "--resume"], small)
    assert again.returncode == 2
    assert "lr=0.01" in again.stderr
    assert "0.5" in again.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "group-hs"), "--data"),
        (("--epochs", "3"), "--data"),
        (("--data", "nothing"), "--data nothing"),
        (("--data", DATA, "--epochs", "1", "--train", "speed=3"), "speed"),
        (("--data", DATA, "--epochs", "1", "--train", "momentum=much"), "momentum"),
        (("--data", DATA, "--epochs", "1", "--train", "dense.lr=1"), "dense"),
        (("--data", DATA, "--train", "lr=1"), "--train lr=1: nothing is trained"),
        (("--data", DATA, "--distill", "0.5"), "--distill 0.5: nothing is trained"),
        (("--data", DATA, "--method", "group-hs", "--option", "beta=1"), "beta"),
        (("--data", DATA, "--method", "greg-1", "--picks", "greg-2"), "--picks"),
        (("--data", DATA, "--epochs", "1", "--batch-size", "5000"), "batch_size"),
    ],
)
def test_mistakes_are_one_line(small, slimnet, words, told):
    content = torch.load("small.pt", weights_only=True)
    torch.save(content["state_dict"], "small.pt")  # it no longer says what it was trained on
    quick = [w for w in QUICK if w not in ("--batch-size", "32")]
    outcome = slimnet("prune", "small.pt", *ARCH, *quick, *words)
    assert outcome.code == 2
    assert told in outcome.line
    assert not (small / "small-slim" / "slim.onnx").exists()


RECIPE = f"""
arch = "net.py:small"
data = "{DATA}"
seeds = [0, 1]

[dense]
epochs = 3
lr = 0.1
batch_size = 32

[finetune]
epochs = 1
batch_size = 32

[prune]
method = "l1"

[sweep]
"prune.ratio" = [0.25, 0.75]
"""


@pytest.mark.slow
def test_a_recipe_runs_every_combination_once(small):
    (small / "r.toml").write_text(RECIPE)
    done = process(["run", "r.toml", "--device", "cpu"], small)
    assert done.returncode == 0, done.stderr
    rows = json.loads((small / "results" / "r.json").read_text())["rows"]
    assert [(row["seed"], row["prune.ratio"]) for row in rows] == [(0, 0.25), (0, 0.75), (1, 0.25), (1, 0.75)]
    assert rows[0]["macs"]["after"] > rows[1]["macs"]["after"]
    again = process(["run", "r.toml", "--device", "cpu"], small)
    assert len(again.stdout.splitlines()) == 1


CHOICES = f"""
arch = "net.py:residual"
input = "1x1x8x8"
data = "{DATA}"

[finetune]
epochs = 0

[prune]
ratio = 0.5

[[sweep]]
"prune.method" = ["l1"]

[[sweep]]
"prune.coupled" = [false]

[[sweep]]
"prune.ignore" = [["inner"]]

[[sweep]]
"prune.ratio_for" = [{{ inner = 0.25 }}]

[[sweep]]
"prune.round_to" = [4]

[[sweep]]
"prune.scope" = ["global"]
"prune.method" = ["bn-gamma"]
"""
RESIDUAL = """
import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((1, 12), (12, 16), (16, 12)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (12, 16))
        self.fc = nn.Linear(12, 10)
        with torch.no_grad():
            self.norms[0].weight[:] = torch.linspace(2, 3, 12)
            self.norms[1].weight[:] = torch.linspace(0, 1, 16)

    def forward(self, x):
        s = self.norms[0](self.stem(x))
        return self.fc((s + self.outer(self.norms[1](self.inner(s)))).relu().mean((2, 3)))


def residual():
    torch.manual_seed(0)
    return Residual()
"""


@pytest.mark.slow
def test_a_recipe_chooses_as_its_table_says(small):
    """Every key of [prune] that says what goes: the widths of the stream (stem) and of the block (inner)."""
    (small / "net.py").write_text(RESIDUAL)
    (small / "c.toml").write_text(CHOICES)
    done = process(["run", "c.toml", "--device", "cpu", "--json"], small)
    assert done.returncode == 0, done.stderr
    widths = [(row["widths"]["stem.weight"], row["widths"]["inner.weight"]) for row in json.loads(done.stdout)]
    plain, coupled, ignored, of_its_own, rounded, one_threshold = widths
    assert plain == (6, 8)
    assert coupled == (12, 8)
    assert ignored == (6, 16)
    assert of_its_own == (6, 12)
    assert [width % 4 for width in rounded] == [0, 0] != [width % 4 for width in plain]
    assert one_threshold == (12, 2)


SEARCH = f"""
arch = "net.py:small"
data = "{DATA}"

[search]
iterations = 2

[train]
epochs = 1
batch_size = 32

[[sweep]]
"search.eta" = [0.0, 1.0]

[[sweep]]
"search.method" = ["lottery"]
"search.fraction" = [0.25]
"""


@pytest.mark.slow
def test_a_recipe_of_several_sweeps_searches_masks(small):
    (small / "s.toml").write_text(SEARCH)
    done = process(["run", "s.toml", "--device", "cpu", "--json"], small)
    assert done.returncode == 0, done.stderr
    none, slack, lottery = json.loads(done.stdout)
    assert [len(row["iterations"]) for row in (none, slack, lottery)] == [3, 3, 3]
    assert slack["iterations"][-1]["remaining"] < none["iterations"][-1]["remaining"] < 1
    assert lottery["iterations"][1]["remaining"] == pytest.approx(0.75, abs=0.01)
    assert lottery["sparsity"]["nonzero"] < lottery["sparsity"]["total"]


NAMED = 'arch = "models:mlp"\ndata = "digits"\n'


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("arch = ", "TOML"),
        ("speed = 1", "speed"),
        ("", "arch is missing"),
        (f"{NAMED}", "[prune] or [search]"),
        (f"{NAMED}search = 3", "search cannot be 3"),
        (f"{NAMED}[search]\np = 'x'", "[search] p cannot be 'x'"),
        (f"{NAMED}[search]\nspeed = 1", "[search] speed is not known"),
        (f"{NAMED}sweep = [1]\n[search]", "[sweep] needs lists"),
        (f"{NAMED}[search]\n[sweep]\n'search.p' = 0.5", "[sweep] needs lists"),
        (f"{NAMED}[search]\n[sweep]\n'search.p' = ['x']", "[search] p cannot be 'x'"),
        (f"{NAMED}[search]\n[train]\nepochs = 'x'", "epochs=x"),
    ],
)
def test_recipes_that_make_no_sense(slimnet, tmp_path, wrong, told):
    (tmp_path / "r.toml").write_text(wrong)
    outcome = slimnet("run", "r.toml")
    assert outcome.code == 2
    assert told in outcome.line
