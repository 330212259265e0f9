"""What the README says about commands, options and keys exists."""

import re

import pytest
import typer

from slimnet.cli import app
from slimnet.methods.registry import Kind, names
from tests.networks.files import ROOT

README = (ROOT / "README.md").read_text()
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands() -> list[list[str]]:
    """Every slimnet command in an indented block or a code span, as words."""
    lines = re.findall(r"^    (?:.*&& )?slimnet (.+)$", README, re.MULTILINE) + re.findall(r"`slimnet ([^`]+)`", README)
    return [line.partition("#")[0].split() for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command_exists(words):
    assert words[0] in VERBS
    known = {name for parameter in VERBS[words[0]].params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known | {"--help"}


def test_options_named_in_the_text_exist():
    known = {name for verb in VERBS.values() for p in verb.params for name in (*p.opts, *p.secondary_opts)}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert named
    assert named <= known | {"--help"}


def test_every_verb_is_in_the_readme():
    assert set(VERBS) == set("prune profile trace shrink slim verify bench train eval run analyze sap compare".split())
    assert all(f"`slimnet {verb} " in README for verb in VERBS)


def test_the_readme_lists_the_methods_of_the_registry():
    from_weights, from_data = re.search(r"From the weights: (.*?)From data: (.*?)While training", README, re.S).groups()
    table = README[README.index("| method | what it does") : README.index("They act on the traced groups")]
    training = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    for text, kinds in (
        (from_weights, [Kind.WEIGHTS]),
        (from_data, [Kind.DATA]),
        (" ".join(training), [Kind.TRAINING, Kind.SINGLE]),
    ):
        assert sorted(re.findall(r"`([^`]+)`", text)) == sorted(names(*kinds))


def test_the_criterion_of_ones_own_in_the_readme_works(tmp_path):
    import slimnet
    from tests.networks.graphs import net

    (example,) = re.findall(r"```python\n(# mine.py.*?)```", README, re.S)
    (tmp_path / "mine.py").write_text(example)
    text = "(float[1,4] x) => (y) <float[4,8] w, float[8,3] v> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
    trace = slimnet.trace(net(text))
    found, l1 = (slimnet.plan(trace, method=method).kept for method in (f"{tmp_path / 'mine.py'}:MeanPower", "l1"))
    assert all((found[t][axis] == l1[t][axis]).all() for t in l1 for axis in l1[t])


def test_every_key_of_the_report_is_in_the_readme():
    from slimnet.pipeline.prune import prune
    from tests.networks.graphs import net
    from tests.networks.named import MLP

    report = prune(net(MLP)).content
    section = README[README.index("## report.json") : README.index("## Measured")]
    assert all(f"`{key}`" in section for key in report)
    documented = {
        key for cell in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", cell)
    }
    assert documented == set(report)
    assert all(key in section for part in ("verify", "speedup", "timing_s") for key in report[part])
