"""The list of methods: what it says is true of their classes, and old names keep working."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

import slimnet
from slimnet.common.errors import BadInput
from slimnet.graph.plan import Plan
from slimnet.methods import Method, catalog, create, is_training, lookup, names, register, registry
from slimnet.methods.lookup import find, kind_of
from slimnet.methods.registry import Kind, canonical, choices, compared
from slimnet.methods.training import TrainingMethod
from slimnet.pipeline.recipe import jobs, read
from tests.networks.files import ROOT
from tests.networks.graphs import net

MLP = "(float[1,4] x) => (y) <float[4,8] w, float[8,3] v> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"


@pytest.mark.parametrize("entry", catalog(), ids=lambda entry: entry.name)
def test_an_entry_is_true_of_its_class(entry):
    cls = find(entry.name)
    assert issubclass(cls, Method)
    assert kind_of(cls) is entry.kind
    assert issubclass(cls, TrainingMethod) == entry.kind.trains == is_training(entry.name)
    assert entry.summary
    assert "\n" not in entry.summary
    assert getattr(slimnet.methods, cls.__name__) is cls


def test_names_and_aliases_are_unique():
    every = [name for entry in catalog() for name in (entry.name, *entry.aliases)]
    assert len(every) == len(set(every))


def test_the_list_is_read_and_a_criterion_found_without_torch():
    script = """
import sys
from slimnet.methods.registry import catalog, choices
assert "hoyer" in choices() and "numpy" not in sys.modules
from slimnet.methods import create, is_training
create("l1"), create("apoz")
assert is_training("greg-1") and not is_training("fisher")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_compared_criteria_are_those_of_the_papers_table_1():
    assert compared() == "l1 l2 fermat gm bn-gamma bn-beta apoz entropy taylor-l1 taylor-l2".split()


def test_help_texts_list_every_name_once():
    text = choices()
    listed = [name for part in text.split(". ") for name in part.rstrip(".").partition(": ")[2].split(", ")]
    assert sorted(listed) == sorted(names())
    assert all(f"{kind}: " in text for kind in Kind)


# -- old names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [("max", "largest"), ("obd", "fisher")])
def test_an_old_name_is_the_method_by_its_present_name(old, new):
    assert type(create(old)) is type(create(new))
    assert not is_training(old)
    assert canonical(old) == new
    assert old not in names()


def test_a_plan_made_by_an_old_name_records_the_present_one(tmp_path):
    trace = slimnet.trace(net(MLP))
    old, new = (slimnet.plan(trace, method=name) for name in ("max", "largest"))
    assert old.provenance == new.provenance
    assert old.provenance["method"] == "largest"
    old.provenance["method"] = "max"
    old.save(tmp_path / "plan.json")
    read = Plan.load(tmp_path / "plan.json")
    assert (trace.removed(read) == trace.removed(new)).all()


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda file: file.stem)
def test_the_recipes_name_methods_that_exist(file):
    """By old names too: `greg_t7_obd` was written when they were the only ones."""
    for job in jobs(read(file)):
        chosen = job.settings.get("prune", {})
        for name in (chosen.get("method", "l1"), chosen.get("picks", "l1")):
            assert issubclass(find(name), Method)


# -- a method of one's own -------------------------------------------------------------------------------------------


@pytest.fixture
def mine(monkeypatch):
    """A criterion that keeps the last units, registered as `mine` for one test."""
    monkeypatch.setattr(lookup, "_REGISTERED", {})
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @register("mine")
    @dataclass
    class Mine(Method):
        """Keeps the last units."""

        factor: float = 1.0

        def score(self, params, groups):
            return [self.factor * np.arange(len(group)) for group in groups]

    return Mine


def test_a_registered_class_is_a_method_like_any_other(mine):
    assert find("mine") is mine
    assert catalog()[-1] == registry.Entry("mine", Kind.WEIGHTS, "Keeps the last units.")
    trace = slimnet.trace(net(MLP))
    assert trace.removed(slimnet.plan(trace, method="mine", round_to=None)).tolist() == [True] * 4 + [False] * 4
    assert trace.removed(slimnet.plan(trace, method="mine", round_to=None, factor=-1)).tolist() == (
        [False] * 4 + [True] * 4
    )


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(BadInput, match=r"method 'l3' is not known; choose one of: l1, l2, .*transformed-l1"):
        find("l3")
