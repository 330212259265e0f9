"""A verb parses, calls one file of slimnet/pipeline, and prints: what it decides is decided elsewhere."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import slimnet
from slimnet.cli import app
from slimnet.cli.options import translated
from slimnet.common.errors import BadInput
from slimnet.common.settings import settings_of
from slimnet.pipeline.config import ModelConfig, PruneConfig, RunConfig, TrainConfig
from slimnet.verification.draws import THOROUGH
from tests.networks.files import ROOT

VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
#: What all verbs share.
SHARED = ("__init__", "crash", "options")
FILES = [path for path in sorted((ROOT / "slimnet" / "cli").glob("*.py")) if path.stem not in SHARED]
#: Verbs that load a network into a runtime.
RUNNING = ("prune", "shrink", "slim", "verify", "bench", "eval", "profile", "analyze", "sap", "run")


def imported(path: Path) -> Iterator[str]:
    """Modules of slimnet that a file imports when it runs, anywhere in it."""
    tree = ast.parse(path.read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    hidden = {child for node in typing for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in hidden and str(node.module).startswith("slimnet."):
            yield str(node.module)


def test_every_verb_has_a_file():
    assert [path.stem for path in FILES] == sorted(VERBS)


def test_verify_draws_as_many_inputs_as_the_function_of_python():
    (runs,) = (option for option in VERBS["verify"].params if option.name == "runs")
    assert runs.default == inspect.signature(slimnet.verify).parameters["runs"].default == THOROUGH


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_verb_calls_one_file_of_the_pipeline(path):
    modules = set(imported(path)) - {"slimnet.pipeline.config"}
    assert len([name for name in modules if name.startswith("slimnet.pipeline.")]) == 1
    assert {name.split(".")[1] for name in modules} <= {"cli", "common", "pipeline", "report"}


@pytest.mark.parametrize("verb", RUNNING)
def test_what_runs_networks_can_be_chosen(verb):
    assert {"--threads", "--provider"} <= options(verb).keys()


def options(verb: str) -> dict[str, typer.core.TyperOption]:
    return {name: option for option in VERBS[verb].params for name in option.opts}


def test_an_option_is_what_its_field_says():
    """Help and default of an option stand at the config's field and nowhere else."""
    found = options("prune")
    for config in (ModelConfig, PruneConfig, RunConfig):
        for name, (setting, default) in settings_of(config).items():
            if setting.kind is None or setting.argument or setting.phase:
                continue
            option = found[(setting.option or (f"--{name.replace('_', '-')}",))[0].partition("/")[0]]
            assert option.help == setting.help
            assert option.default in (default, None)


@dataclass(frozen=True)
class Asked:
    """What the pipeline is asked to prune."""

    model: ModelConfig
    config: PruneConfig
    run: RunConfig
    train: TrainConfig


@pytest.fixture
def asked(slimnet, monkeypatch):
    """What `slimnet prune net.onnx` and more words ask the pipeline for."""
    found = []

    def take(*configs):
        found.append(Asked(*configs[:-1]))
        return {}

    monkeypatch.setattr("slimnet.pipeline.prune.prune_file", take)

    def ask(*words: str) -> Asked:
        assert slimnet("prune", "net.onnx", *words).code == 0
        return found[-1]

    return ask


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ([], {}),
        (["--ratio", "0.25", "--heads"], {"ratio": "0.25", "prefer": "heads"}),
        (["--round-to", "none", "--skip-coupled"], {"round_to": None, "coupled": False}),
        (["--round-to", "16", "--ignore", "a", "--ignore", "b"], {"round_to": 16, "ignore": ("a", "b")}),
        (["--ratio-for", "a=b=0.5"], {"ratio_for": (("a=b", 0.5),)}),
        (["--option", "seed=1", "--option", "x=true"], {"options": {"seed": 1, "x": True}}),
        (["--flops", "2G"], {"macs": "2G"}),
        (["--macs", "2G", "--best", "--macs-weight", "3"], {"macs": "2G", "best": True, "macs_weight": 3}),
        (["--speedup", "2", "--speedup", "3"], {"speedup": ("2", "3")}),
    ],
    ids=str,
)
def test_what_is_typed_is_what_the_config_holds(asked, words, fields):
    assert asked(*words).config == PruneConfig(**fields)


def test_where_and_with_what(asked):
    run = asked("-o", "out", "--threads", "2", "--provider", "cuda", "--no-prove", "--bench-seconds", "0").run
    assert (run.out, run.threads, run.provider, run.prove, run.bench_seconds) == (Path("out"), 2, "cuda", False, 0)
    assert run.command.startswith("slimnet prune net.onnx -o out")
    assert asked().run.out == Path("net-slim")


def test_settings_of_training_go_to_their_phases(asked):
    words = ["--epochs", "3", "--sparse-lr", "0.1", "--batch-size", "5", "--train", "finetune.clip=1", "--train",
             "momentum=0.8"]  # fmt: skip
    config = asked(*words).train
    assert config.finetune == {"epochs": 3, "batch_size": 5, "seed": 0, "clip": 1, "momentum": 0.8}
    assert config.sparsify == {"epochs": 10, "lr": 0.1, "batch_size": 5, "seed": 0, "momentum": 0.8}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("`round_to` soft: give auto", "--round-to soft: give auto"),
        ("use `round_to=None`", "use --round-to none"),
        ("`inputs` big: is not a shape", "--input big: is not a shape"),
        ("pass `unsafe_pickle=True`", "pass --unsafe-pickle"),
        ("try `prefer=heads` or `coupled=False`", "try --heads or --skip-coupled"),
        ("`p` is odd", "--pq-p is odd"),
        ("`slimnet trace` lists them", "`slimnet trace` lists them"),
        ("knows `Tensor.view`", "knows `Tensor.view`"),
    ],
)
def test_arguments_in_errors_become_options(said, shown):
    assert translated(said) == shown
    assert str(BadInput(said)) == said


def test_verbs_are_documented():
    assert all(inspect.getdoc(VERBS[verb].callback) for verb in VERBS)
