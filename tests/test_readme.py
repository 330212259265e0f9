"""What the README says about commands, options and keys exists."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from slimnet.cli import app
from slimnet.methods.registry import Kind, choices, compared, names
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
    assert set(VERBS) == set(
        "prune profile trace shrink slim recover verify bench train eval run analyze sap compare".split()
    )
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


def test_help_lists_the_methods_of_the_registry():
    (method,) = (p for p in VERBS["prune"].params if "--method" in p.opts)
    assert method.help.startswith(choices())
    assert "FILE.py:CLASS" in method.help


def test_the_help_of_analyze_names_the_criteria_of_the_registry_that_look_at_data():
    (listed,) = re.findall(r"Criteria that look at data \((.*?)\)", VERBS["analyze"].help, re.S)
    assert sorted(listed.replace("\n", " ").split(", ")) == sorted({*compared()} & {*names(Kind.DATA)})
    assert "ten criteria" in VERBS["analyze"].help
    assert "Ten criteria" in README
    assert len(compared()) == 10


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


# -- the keys of report.json ------------------------------------------------------------------------------------------

#: What is written of an object: its keys with what is written of their values, None for nothing; "…" says "and others".
Shape = dict[str, Any] | None


def written(text: str) -> Shape:
    """A shape such as `{a, b: [{c, …}]}` as nested dicts."""
    words = iter(re.findall(r"[\w…]+|[^\w\s]", text))

    def value(first: str) -> Shape:
        if first == "[":
            found = value(next(words))
            assert next(words) == "]", text
            return found
        assert first == "{", text
        found = {}
        mark = ","
        while mark == ",":
            name, mark = next(words), next(words)
            found[name] = None
            if mark == ":":
                found[name], mark = value(next(words)), next(words)
        assert mark == "}", text
        return found

    return value(next(words))


def shape(kind: Any) -> Shape:
    """The shape that the schema gives a type: of the objects in it, where it is a list or a mapping."""
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return {name: shape(hint) for name, hint in typing.get_type_hints(kind).items() if name != "more"}
    return next(filter(None, map(shape, typing.get_args(kind))), None)


def differences(said: Shape, actual: Shape, where: str) -> Iterator[str]:
    """Keys in which the README and the schema differ; a nested object need not be written."""
    if said is None:
        return
    known = actual or {}
    yield from (f"{where}.{name} does not exist" for name in said if name != "…" and name not in known)
    if "…" not in said:
        yield from (f"{where}.{name} is not in the README" for name in known if name not in said)
    for name in known.keys() & said.keys():
        yield from differences(said[name], known[name], f"{where}.{name}")


def test_the_table_of_keys_is_that_of_the_schema():
    from slimnet.report.schema import Report

    section = README[README.index("## report.json") : README.index("## Measured")]
    keys = shape(Report)
    assert keys is not None
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.MULTILINE)
    said = {key: re.findall(r"`([\[{].+?)`", text) for cell, text in rows for key in re.findall(r"`(\w+)`", cell)}
    assert sorted(said) == sorted(keys)
    assert [key for key in keys if keys[key] and not said[key]] == [], "an object is described by its keys"
    found = [
        line for key in keys if keys[key] for text in said[key] for line in differences(written(text), keys[key], key)
    ]
    assert found == []


def test_a_wrong_table_of_keys_is_noticed():
    keys: Shape = {"a": None, "b": {"c": None, "d": None}}
    assert list(differences(written("{a, b: [{c, d}]}"), keys, "k")) == []
    assert list(differences(written("{a, b}"), keys, "k")) == []
    assert list(differences(written("{b: {…}, …}"), keys, "k")) == []
    assert list(differences(written("{a, b: {c, e}}"), keys, "k")) == [
        "k.b.e does not exist",
        "k.b.d is not in the README",
    ]
