"""What the configs take, and what recipes make of them."""

import dataclasses
import inspect

import numpy as np
import pytest

import slimnet
from slimnet.common.errors import BadInput
from slimnet.pipeline.config import IterativeConfig, PruneConfig, RunConfig, TrainConfig
from slimnet.pipeline.recipe import prune_config, read
from slimnet.runtime.onnxruntime import OnnxRuntime
from tests.networks.files import ROOT
from tests.networks.graphs import net

TEXT = "(float[1,4] x) => (y) <float[4,8] w, float[8,3] v> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"


@pytest.mark.parametrize("config", [slimnet.PruneConfig, slimnet.RunConfig, slimnet.TrainConfig, slimnet.Phase])
def test_public_configs_are_frozen_keyword_only_and_documented(config):
    parameters = inspect.signature(config).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    assert all(f"{p.name}: " in config.__doc__ for p in parameters)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().seed = 1


def test_the_name_of_a_method_is_short_for_a_config():
    dense, run = net(TEXT), slimnet.RunConfig(bench_seconds=0)
    short, long = slimnet.prune(dense, "l2", run), slimnet.prune(dense, slimnet.PruneConfig(method="l2"), run)
    assert short.content["how"] == long.content["how"]
    assert short.content["groups"] == long.content["groups"]


@pytest.mark.parametrize(("given", "asked"), [(2, 2.0), (2.5, 2.5), ("2.5x", 2.5)])
def test_a_target_may_be_a_number_or_text(given, asked):
    target = PruneConfig(speedup=given).target
    assert target is not None
    assert (target.kind, target.asked) == ("speedup", asked)


def test_a_latency_without_a_unit_is_in_milliseconds():
    assert PruneConfig(latency=0.0123).target == PruneConfig(latency="12.3us").target


def test_the_hardest_of_several_targets_comes_first():
    config = PruneConfig(speedup=(1.5, 3, "2x"), best=True)
    assert [target.asked for target in config.targets] == [3, 2, 1.5]
    assert config.with_target(config.targets[1]) == PruneConfig(speedup=2.0, best=True)
    with pytest.raises(BadInput, match="one network meets one target"):
        slimnet.prune(net(TEXT), config)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ratio": 1.0}, "`ratio` 1 is not between 0 and 1"),
        ({"ratio": "half"}, "half is not a number"),
        ({"ratio": 0.5, "macs": 0.5}, "`ratio` and `macs` exclude each other"),
        ({"macs": 0.5, "scope": "global"}, "`scope` global: a target sets"),
        ({"macs_weight": 2}, "`macs_weight` is for targets"),
        ({"params": "many"}, "`params` many: is not understood"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_told_at_once(wrong, says):
    with pytest.raises(BadInput, match=says):
        PruneConfig(**wrong)


def test_a_backend_may_be_given_in_place_of_a_provider():
    mine = OnnxRuntime(threads=1)
    assert RunConfig(provider=mine).backend is mine
    assert RunConfig(provider=mine, threads=2).backend == OnnxRuntime(threads=2)
    assert RunConfig(threads=3).backend == OnnxRuntime("cpu", 3)
    with pytest.raises(BadInput, match="`provider` abacus: is not installed"):
        slimnet.prune(net(TEXT), run=RunConfig(provider="abacus"))


def test_phases_of_training_are_whole_or_what_differs():
    whole = slimnet.Phase(epochs=3, lr=0.5)
    sparsify, finetune = TrainConfig(finetune=whole, sparsify={"lr": 0.2}).phases(0)
    assert finetune is whole
    assert (sparsify.lr, sparsify.schedule) == (0.2, "constant")
    assert TrainConfig().phases(7)[1].epochs == 7


def test_settings_of_a_training_that_does_not_take_place():
    with pytest.raises(BadInput, match=r"`finetune.lr=0.1`: nothing is trained; give `data` and `epochs`"):
        slimnet.prune(net(TEXT), train=TrainConfig(finetune={"lr": 0.1}))


# -- recipes ---------------------------------------------------------------------------------------------------------


def test_a_recipe_rounds_nothing_unless_it_says_so():
    assert prune_config({}, 0) == PruneConfig(round_to=None)
    assert prune_config({"round_to": "auto"}, 0).round_to == "auto"
    assert prune_config({"round_to": 16}, 0).round_to == 16
    assert prune_config({"round_to": "none"}, 0).round_to is None


def test_the_seed_of_a_recipe_is_that_of_random_pruning():
    assert prune_config({"method": "random", "options": {"seed": 1}}, 7).options == {"seed": 7}


def test_a_recipe_may_name_whatever_decides_what_goes(tmp_path):
    """The keys of [prune] and [search] are the fields of the configs."""
    (tmp_path / "r.toml").write_text(
        'arch = "models:mlp"\ndata = "digits"\n[prune]\nmethod = "l2"\nmacs = 0.5\nbest = true\nprefer = "heads"\n'
        'allow_inexact = true\nratio_for = {conv1 = 0.5}\nignore = ["fc"]\ncoupled = false\noptions = {}\n'
    )
    config = prune_config(read(tmp_path / "r.toml")["prune"], 0)
    assert (config.macs, config.best, config.prefer, config.coupled) == (0.5, True, "heads", False)
    assert config.own_ratios == (("conv1", 0.5),)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_understood(path):
    recipe = read(path)
    if "prune" in recipe:
        prune_config(recipe["prune"], 0)
    else:
        IterativeConfig(**recipe["search"])


def test_scores_of_a_training_method_are_compared_as_it_says():
    """One threshold over groups of which one has scores ten times as large."""
    from slimnet.methods import GroupHS

    class AsTheyAre(GroupHS):
        def normalise(self, groups, scores):
            return list(scores)

    traced = slimnet.trace(
        net(
            """(float[1,4] x) => (y) <float[4,8] u, float[8,8] v, float[8,3] w>
            { a = MatMul(x, u) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, w) }"""
        )
    )
    scores = [np.arange(1.0, 9), 10 * np.arange(1.0, 9)]
    budget = slimnet.picker(traced, 0.5, scope="global", round_to=None)
    relative, plain = (cls(traced.groups, {}, budget).chosen(scores) for cls in (GroupHS, AsTheyAre))
    assert [int(removed.sum()) for removed in relative] == [4, 4]
    assert [int(removed.sum()) for removed in plain] == [7, 1]
    lone = GroupHS(traced.groups, {}, lambda values: [v < 3 for v in values])
    assert [int(removed.sum()) for removed in lone.chosen(scores)] == [2, 0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PruneConfig(allow_inexact="no"), "`allow_inexact` 'no': give True or False"),
        (lambda: PruneConfig(prefer="x"), "`prefer` 'x': give None, 'heads' or 'head-dims'"),
        (lambda: PruneConfig(coupled=1), "`coupled` 1: give True or False"),
        (lambda: PruneConfig(method=3), "`method` 3: give a text"),
        (lambda: PruneConfig(ignore="conv1"), "`ignore` 'conv1': give a list"),
        (lambda: RunConfig(prove="no"), "`prove` 'no': give True or False"),
        (lambda: RunConfig(bench_seconds=-1), "`bench_seconds` -1: give a number from 0 to 86400"),
        (lambda: RunConfig(threads="2"), "`threads` '2': give a number from 1 to inf"),
        (lambda: RunConfig(out=3), "`out` 3: give a path"),
    ],
)
def test_what_a_setting_does_not_allow_is_refused_when_the_config_is_made(make, says):
    with pytest.raises(BadInput) as caught:
        make()
    assert str(caught.value) == says
