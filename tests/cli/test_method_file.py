"""`--method FILE.py:CLASS`: criteria, criteria that look at data, and training methods of one's own."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import slimnet as library
from slimnet.common.errors import BadInput
from slimnet.methods import create, is_training
from slimnet.methods.lookup import find, kind
from slimnet.methods.registry import Kind
from tests.networks.graphs import net
from tests.networks.named import CNN

QUICK = ("--round-to", "none", "--bench-seconds", "0")

CRITERIA = """
from dataclasses import dataclass

import numpy as np

from helper import positions
from slimnet.methods import DataMethod, Method


@dataclass(frozen=True)
class ByPlace(Method):
    \"\"\"The first units go, or with a negative sign the last.\"\"\"

    sign: float = 1.0
    name: str | None = None

    def score(self, params, groups):
        return [self.sign * positions(group) for group in groups]


@dataclass
class Busiest(DataMethod):
    \"\"\"Units that put out much go first.\"\"\"

    needs = "activations"

    def score(self, params, groups):
        return [-self.measured()[group.name].pooled.mean(axis=0) for group in groups]


class Plain(Method):
    def score(self, params, groups):
        return [np.zeros(len(group)) for group in groups]


@dataclass
class Demanding(Method):
    must: int

    def score(self, params, groups):
        return [np.full(len(group), self.must) for group in groups]


class Half(Method):
    pass


class Blind(DataMethod):
    needs = "sight"

    def score(self, params, groups):
        return []


@dataclass(frozen=True)
class Frozen(DataMethod):
    needs = "activations"

    def score(self, params, groups):
        return []


class Short(Method):
    def score(self, params, groups):
        return [np.zeros(1) for group in groups]


class Few(Method):
    def score(self, params, groups):
        return []


class Unrelated:
    pass


number = 3
"""

TRAINING = """
from dataclasses import dataclass

import torch

from slimnet.methods import TrainingMethod


@dataclass
class Decay(TrainingMethod):
    \"\"\"Weight decay, and a count of its steps.\"\"\"

    strength: float = 0.01

    def __post_init__(self):
        self.count = 0

    @torch.no_grad()
    def after_backward(self):
        self.count += 1
        for p in dict.fromkeys(self.params.values()):
            p.grad.add_(p, alpha=self.strength)

    def status(self):
        return {"count": float(self.count)}

    def notes(self):
        return [f"decayed {self.count} times by {self.strength:g}"]


class Idle(TrainingMethod):
    pass
"""


NETWORK = """
from torch import nn


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The file with criteria, which imports another one beside it."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "helper.py").write_text(
        "import numpy as np\n\n\ndef positions(group):\n    return np.arange(len(group))\n"
    )
    (folder / "mine.py").write_text(CRITERIA)
    return folder / "mine.py"


@pytest.fixture
def training(tmp_path: Path) -> Path:
    (tmp_path / "training.py").write_text(TRAINING)
    return tmp_path / "training.py"


# -- criteria --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "kept"), [((), range(4, 8)), (("--option", "sign=-1"), range(4))])
def test_a_criterion_prunes_end_to_end(slimnet, cnn, mine, tmp_path, option, kept):
    outcome = slimnet("prune", cnn, "--method", f"{mine}:ByPlace", *option, "-o", "out", "--json", *QUICK)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["verify"]["unproven"] == []
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["kept"]["conv1"]["0"] == list(kept)
    assert plan["how"]["method"] == report["method"] == f"{mine}:ByPlace"
    assert ir.load(tmp_path / "out" / "slim.onnx").graph.initializers["conv1"].shape[0] == 4


def test_a_criterion_that_looks_at_data(slimnet, cnn, mine, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((8, 3, 8, 8)).astype(np.float32), y=np.arange(8) % 5)
    words = ("prune", cnn, "--method", f"{mine}:Busiest", "-o", "out", *QUICK)
    assert f"--method {mine}:Busiest: needs data" in slimnet(*words).line
    assert slimnet(*words, "--data", tmp_path / "d.npz").code == 0
    assert (tmp_path / "out" / "slim.onnx").exists()


def test_a_criterion_in_python_and_one_without_options(mine):
    trace = library.trace(net(CNN))
    plan = library.plan(trace, method=f"{mine}:ByPlace", round_to=None, sign=-1.0)
    assert plan.provenance["method"] == f"{mine}:ByPlace"
    assert trace.by_group(trace.removed(plan))[0].tolist() == [False] * 4 + [True] * 4
    assert library.plan(trace, method=f"{mine}:Plain").kept
    assert create(f"{mine}:ByPlace", name="any type where the default is None")
    assert (kind(f"{mine}:ByPlace"), kind(f"{mine}:Busiest")) == (Kind.WEIGHTS, Kind.DATA)


def test_the_file_runs_once_and_again_when_it_has_changed(mine):
    first = find(f"{mine}:Plain")
    assert find(f"{mine}:Plain") is first
    mine.write_text(CRITERIA.replace("class Plain(Method):", "class Plain(Method):\n    changed = True\n"))
    assert find(f"{mine}:Plain").changed


def test_a_criterion_in_a_recipe(slimnet, mine, tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    trained(tmp_path)
    (tmp_path / "r.toml").write_text(f"""
        title = "A criterion of one's own"
        arch = "net.py:small"
        weights = "small.pt"
        data = "digits?limit=64"
        prune = {{ method = '{mine}:ByPlace', options = {{ sign = -1.0 }} }}
        finetune = {{ epochs = 0 }}
    """)
    outcome = slimnet("run", "r.toml", "--device", "cpu", "-o", "out")
    assert outcome.code == 0, outcome.err
    (file,) = (tmp_path / "out").rglob("plan.json")
    plan = json.loads(file.read_text())
    assert plan["kept"]["1.weight"]["0"] == list(range(8))
    assert plan["how"]["method"] == f"{mine}:ByPlace"


# -- training --------------------------------------------------------------------------------------------------------


def test_a_training_method_trains(slimnet, training, tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    assert is_training(f"{training}:Decay")
    outcome = slimnet(
        *("prune", "--method", "training.py:Decay", "--option", "strength=0.5", "--data", "digits?limit=128"),
        *("--arch", "net.py:small", "--input", "1x1x8x8", "--sparse-epochs", "2", "--epochs", "1", "--device", "cpu"),
        *("--batch-size", "32", "-o", "out", "--json", *QUICK, trained(tmp_path)),
    )
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["method"] == "training.py:Decay"
    assert "decayed 8 times by 0.5" in report["notes"]
    assert report["training"]["sparsify"]["epochs"][-1]["count"] == 8
    assert ir.load(tmp_path / "out" / "slim.onnx").graph.initializers["1.weight"].shape[0] == 8


def trained(folder: Path) -> Path:
    """Weights for the network, as random as they come."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).state_dict(),
               folder / "small.pt")  # fmt: skip
    return folder / "small.pt"


# -- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Missing", "mine.py has no class Missing; it has: ByPlace, Busiest, Plain, "),
        ("Unrelated", "Unrelated is no subclass of slimnet.methods.Method"),
        ("number", "number is no subclass"),
        ("Half", "Half lacks score(); define it"),
        ("Blind", "Blind.needs must be one of: activations, gradients, fisher"),
        ("Frozen", "leave frozen out"),
        ("Demanding", "making one fails with TypeError"),
        ("Short", "Short.score(): gives shape [1] for group conv1; give [8]"),
        ("Few", "Few.score(): gives 0 vectors for 2 groups"),
    ],
)
def test_a_class_that_cannot_be_used(slimnet, cnn, mine, name, says):
    outcome = slimnet("prune", cnn, "--method", f"{mine}:{name}", "-o", "out", *QUICK)
    assert outcome.code == 2
    assert says in outcome.line


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.py:Mine", "nowhere.py: no such file"),
        ("broken.py:Mine", "broken.py: cannot be imported: ZeroDivisionError: division by zero"),
        ("broken.py", "method 'broken.py' is not known"),
        ("broken.py:", "method 'broken.py:' is not known"),
        ("broken.txt:Mine", "or FILE.py:CLASS"),
    ],
)
def test_a_file_that_cannot_be_used(slimnet, cnn, tmp_path, spec, says):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    outcome = slimnet("prune", cnn, "--method", spec, "-o", "out", *QUICK)
    assert outcome.code == 2
    assert says in outcome.line


def test_an_unknown_option_and_one_of_another_type(mine):
    with pytest.raises(BadInput, match="has no option 'signs'; it takes: sign, name"):
        create(f"{mine}:ByPlace", signs=1)
    with pytest.raises(BadInput, match="sign=many is not of type float"):
        create(f"{mine}:ByPlace", sign="many")


def test_a_training_method_that_is_not_complete(training):
    with pytest.raises(BadInput, match=r"Idle lacks after_backward\(\)"):
        find(f"{training}:Idle")


# -- nothing that is read names code that runs -----------------------------------------------------------------------


def test_a_plan_or_report_that_names_a_file_does_not_run_it(slimnet, cnn, tmp_path):
    words = ("prune", cnn, *QUICK)
    assert slimnet(*words, "-o", "out").code == 0
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\n")
    for name in ("plan.json", "report.json"):
        file = tmp_path / "out" / name
        content = json.loads(file.read_text())
        content["how"] |= {"method": "evil.py:Evil", "picks": "evil.py:Evil"}
        content |= {"method": "evil.py:Evil"} if "method" in content else {}
        file.write_text(json.dumps(content))
    plan = ("--plan", "out/plan.json")
    assert slimnet("slim", cnn, *plan, "-o", "again", "--bench-seconds", "0").code == 0
    assert slimnet("verify", cnn, "out/slim.onnx", *plan).code == 0
    assert slimnet("compare", "out", "again").code == 0
    assert json.loads((tmp_path / "again" / "report.json").read_text())["method"] == "evil.py:Evil"
    assert not (tmp_path / "ran").exists()
