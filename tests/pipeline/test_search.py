"""From a target to widths, on a machine whose time is made up: no test here depends on the clock."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import pytest

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.graph.net import Net
from slimnet.graph.trace import trace
from slimnet.pipeline.config import PruneConfig, RunConfig
from slimnet.pipeline.profile import profile
from slimnet.pipeline.prune import prune
from slimnet.pipeline.search import LatencySearch, Stopwatch, problem
from slimnet.planning.target import Target
from slimnet.runtime import machine
from slimnet.timing.latency import Comparison
from slimnet.timing.run import bench
from tests.networks.graphs import net

WIDTHS = {"a": 128, "b": 192, "c": 256, "d": 256, "e": 320}
TEXT = """(float[1,3,8,8] x) => (y)
    <float[128,3,1,1] a, float[192,128,1,1] b, float[256,192,1,1] c, float[256,256,1,1] d, float[320,256,1,1] e,
     float[320,5] f>
    { p = Conv(x, a) q = Relu(p) r = Conv(q, b) s = Relu(r) t = Conv(s, c) u = Conv(t, d) v = Conv(u, e)
      w = GlobalAveragePool(v) z = Flatten(w) y = MatMul(z, f) }"""
#: Milliseconds that nothing takes away.
CONSTANT = 0.05


def layers(model: ir.Model) -> dict[str, float]:
    """A machine that needs a millisecond for 25,600 products of channels, and whole blocks of them."""
    shapes = {name: value.shape.numpy() for name, value in model.graph.initializers.items()}
    return {**{name: whole(shapes[name][0]) * whole(shapes[name][1]) / 25_600 for name in WIDTHS},
            "(Flatten)": CONSTANT}  # fmt: skip


def whole(channels: int) -> int:
    """Channels of the blocks that hold so many."""
    block = machine.native_block()
    return -(-channels // block) * block


@dataclass(frozen=True)
class Fake(Stopwatch):
    """`overhead` is what the profiler does not see."""

    overhead: float = 0.1

    def dense_ms(self):
        return self._ms(self.trace.net.model)

    def speedup(self, slim):
        return self.dense_ms() / self._ms(slim)

    def layers(self, models):
        profiled.append(len(models))
        return [layers(model) for model in models]

    def _ms(self, model):
        return sum(layers(model).values()) + self.overhead


profiled: list[int] = []


@pytest.fixture
def made() -> Net:
    profiled.clear()
    return net(TEXT)


def pruned(made, kind, asked, **options):
    config = PruneConfig(**{kind: asked}, **options)
    return prune(made, config, RunConfig(bench_seconds=0), search=LatencySearch(Fake)).content


@pytest.mark.parametrize("asked", [1.3, 1.7, 2.0, 2.5])
def test_a_speedup_is_met(block, made, asked):
    report = pruned(made, "speedup", asked)
    target = report["target"]
    assert target["measured"] == pytest.approx(asked, rel=0.05)
    assert len(target["tries"]) <= 6
    assert target["model_error"]["total"] < 0.01
    assert target["model_error"]["layers"] < 0.05
    assert 0 < target["importance"] < 1
    assert all(group["after"] % block == 0 for group in report["groups"])
    assert report["how"]["speedup"] == asked
    assert report["how"]["macs_weight"] == 1
    assert "ratio" not in report["how"]
    assert {"profile", "measure", "plan"} <= report["timing_s"].keys()


@pytest.mark.usefixtures("block")
def test_a_latency_is_met(made):
    dense = Fake(trace(made)).dense_ms()
    target = pruned(made, "latency", dense / 2)["target"]
    assert target["kind"] == "latency"
    assert target["measured"] == pytest.approx(dense / 2, rel=0.05)
    assert target["predicted"] == pytest.approx(target["tries"][-1]["predicted"])


GROUPED = """(float[1,128,4,4] x) => (y) <float[128,128,1,1] a, float[128,16,3,3] b, float[128,5] f>
    { p = Conv(x, a) q = Relu(p) r = Conv<group=8>(q, b) s = Relu(r) t = GlobalAveragePool(s) u = Flatten(t)
      y = MatMul(u, f) }"""


@dataclass(frozen=True)
class PerGroup(Stopwatch):
    """A machine whose grouped convolutions take time for every group, or for the inputs of a group, and only that."""

    by_group: bool = True

    def dense_ms(self):
        return self._ms(self.trace.net.model)

    def speedup(self, slim):
        return self.dense_ms() / self._ms(slim)

    def layers(self, models):
        return [{"r": self._ms(model)} for model in models]

    def _ms(self, model):
        if not self.by_group:
            return float(model.graph.initializers["b"].shape.numpy()[1])
        ((grouped, _),) = model.graph.initializers["b"].uses()
        return float(grouped.attributes["group"].as_int())


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("by_group", "axes"), [(True, "heads"), (False, "head-dims")])
def test_conv_groups_are_cut_the_way_that_saves_time(by_group, axes):
    search = LatencySearch(lambda traced: PerGroup(traced, by_group=by_group))
    config = PruneConfig(speedup=2.0, round_to=None)
    report = prune(net(GROUPED), config, RunConfig(bench_seconds=0), search=search).content
    assert report["target"]["measured"] == pytest.approx(2.0, rel=0.05)
    whole = trace(net(GROUPED), prefer=axes)
    assert {group["name"]: group["before"] for group in report["groups"]} == {g.name: len(g) for g in whole.groups}


@pytest.mark.usefixtures("block")
def test_less_time_for_less_importance(made):
    kept = [pruned(made, "speedup", asked)["target"]["importance"] for asked in (1.2, 1.6, 2.2)]
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize(("kind", "key"), [("params", "params"), ("macs", "macs")])
@pytest.mark.parametrize("asked", [0.3, 0.6])
def test_counts_are_met_without_measuring(made, kind, key, asked):
    report = pruned(made, kind, asked, round_to=None)
    left = report[key]["after"] / report[key]["before"]
    assert 0.97 * asked < left <= asked
    assert report["target"]["measured"] == pytest.approx(report[key]["after"], abs=5)
    assert report["target"]["tries"] == []
    assert profiled == []


def test_absolute_counts(made):
    report = pruned(made, "params", "100k", round_to=None)
    assert 95_000 < report["params"]["after"] <= 100_000


@pytest.mark.usefixtures("block")
def test_what_cannot_be_reached_names_the_floor_and_the_largest_layer(made, tmp_path):
    config = PruneConfig(speedup=100)
    with pytest.raises(
        BadInput,
        match="`speedup` 100: net cannot be made so fast: with one block of channels in every "
        r"group it still takes 0\.\d+ ms \(\d+\.\d\dx faster\), the largest part of it in \(Flatten\)",
    ):
        prune(made, config, RunConfig(out=tmp_path / "out", bench_seconds=0), search=LatencySearch(Fake))  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_the_best_there_is(block, made):
    report = pruned(made, "speedup", 100, best=True)
    assert {group["after"] for group in report["groups"]} == {block}
    assert "cannot be reached, this is the smallest network" in report["notes"][-1]


@pytest.mark.parametrize(("kind", "asked"), [("params", 100), ("macs", 0.0001)])
def test_counts_that_cannot_be_reached(block, made, kind, asked):
    with pytest.raises(BadInput, match=f"`{kind}` .*: net cannot be made so small: one block of channels"):
        pruned(made, kind, asked)
    report = pruned(made, kind, asked, best=True)
    assert {group["after"] for group in report["groups"]} == {block}


@pytest.mark.parametrize(("kind", "asked"), [("params", 1e9), ("macs", 1e15), ("latency", 1e6)])
def test_what_is_there_already_is_bad_input(made, kind, asked):
    with pytest.raises(BadInput, match="as it is; ask for less"):
        pruned(made, kind, asked)


def test_a_network_is_profiled_once_for_several_targets(made):
    search = LatencySearch(Fake)
    for asked in (2.0, 1.5):
        prune(made, PruneConfig(speedup=asked), RunConfig(bench_seconds=0), search=search)
    assert len(profiled) == 1


def test_ignored_groups_stay_and_named_ratios_count(made):
    report = pruned(made, "speedup", 2.0, ignore=("a",), ratio_for=(("c", 0.5),))
    after = {group["name"]: group["after"] for group in report["groups"]}
    assert after["a"] == 128
    assert after["c"] == 128
    assert after["b"] + after["d"] + after["e"] < 192 + 256 + 320


def test_scores_decide_which_units_stay(made):
    traced = trace(made)
    scores = [np.random.default_rng(0).random(len(group)) for group in traced.groups]
    found = LatencySearch(Fake).find(problem(traced, scores), Target("speedup", 2.0), Clock())
    removed = found.removed(traced, scores)
    for group, values in zip(traced.groups, scores, strict=True):
        gone = removed[group.units]
        assert values[gone].max(initial=0) < values[~gone].min()


@pytest.mark.usefixtures("block")
def test_of_two_ways_to_cut_the_one_that_gets_there_is_taken(made):
    """However little of the network that leaves, and however little the other one misses the target by."""
    traced, search = trace(made), LatencySearch(Fake)
    scores = [np.ones(len(group)) for group in traced.groups]
    short, enough = problem(traced, scores, ignore=("a", "b", "e")), problem(traced, scores)
    cost = search.latency_model(enough, Clock()).cost
    target = Target("speedup", 1.01 * cost.total(short.choices.most) / cost.total(short.choices.fewest))
    assert search.best([short, enough], target, Clock()) == 1
    assert search.best([enough, short], target, Clock()) == 0


@pytest.mark.usefixtures("block")
def test_profile_says_where_the_time_goes(made):
    found = profile(trace(made), LatencySearch(Fake), Clock())
    assert sum(layer["share"] for layer in found["layers"]) == pytest.approx(1)
    assert [layer["ms"] for layer in found["layers"]] == sorted(
        (layer["ms"] for layer in found["layers"]), reverse=True
    )
    assert {tuple(layer["widths"]) for layer in found["layers"]} == {
        (128, 3), (192, 128), (256, 192), (256, 256), (320, 256), (),
    }  # fmt: skip
    for group in found["groups"]:
        times = [step["ms"] for step in group["widths"]]
        assert times == sorted(times)
        assert times[-1] == pytest.approx(found["ms"], rel=0.01)
        assert group["widths"][-1]["units"] == group["units"]


def test_disturbances_do_not_change_a_speedup(made, monkeypatch):
    """Most of the time both networks are slower, the small one more so."""
    rng, sessions = np.random.default_rng(0), []

    def disturbed(models, *_, **__):
        sessions.append(tuple(models))
        quiet = len(sessions) % 4 == 0
        slow = {"dense": 2.0 * (1.0 if quiet else 1.4), "slim": 1.0 if quiet else 1.7}
        samples = np.column_stack([slow[name] * (1 + 0.02 * rng.exponential(size=50)) for name in models])
        return Comparison(tuple(models), samples, dict.fromkeys(models, 1), ())

    monkeypatch.setattr("slimnet.pipeline.search.compare", disturbed)
    assert Stopwatch(trace(made)).speedup(made.model) == pytest.approx(2.0, rel=0.01)
    assert set(sessions) == {("dense", "slim"), ("slim", "dense")}


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("kind", ["speedup", "latency"])
@pytest.mark.parametrize(("slower", "doubted"), [(1.0, False), (1.3, True)])
def test_a_target_that_the_last_timing_does_not_confirm_is_remarked(made, monkeypatch, kind, slower, doubted):
    dense = Fake(trace(made)).dense_ms()

    def at_the_end(*arguments, **options):
        result = bench(*arguments, **options)
        samples = np.tile([dense * 1e-3, dense * 1e-3 / 2 * slower], (20, 1))
        return replace(result, comparison=replace(result.comparison, samples=samples))

    monkeypatch.setattr("slimnet.pipeline.export.bench", at_the_end)
    config = PruneConfig(**{kind: 2.0 if kind == "speedup" else dense / 2})
    report = prune(made, config, RunConfig(bench_seconds=0.01), search=LatencySearch(Fake)).content
    assert any("at the end" in note for note in report["notes"]) == doubted
