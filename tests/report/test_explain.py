"""Why a layer is as large as it is."""

import copy

import pytest

from slimnet.pipeline.config import PruneConfig, RunConfig
from slimnet.pipeline.prune import prune
from slimnet.report.explain import stories
from tests.networks.graphs import net
from tests.networks.named import CNN
from tests.networks.reports import LAYERS, bare

#: Two convolutions whose outputs are added, and a classifier.
RESIDUAL = """(float[1,3,4,4] x) => (y) <float[8,3,3,3] stem, float[8,8,1,1] branch, float[8,5] fc>
    { a = Conv<pads=[1,1,1,1]>(x, stem)
      b = Conv(a, branch)
      c = Add(a, b)
      d = Relu(c)
      e = GlobalAveragePool(d)
      f = Flatten(e)
      y = MatMul(f, fc) }"""


def why(content) -> dict[str, str]:
    return {story.name: " ".join(story.why) for story in stories(content)}


def test_a_pinned_layer_names_the_reason():
    told = why(bare())
    assert "All 5 filters must stay" in told["fc"]
    assert "is an output of the network" in told["fc"]
    assert "All 3 input channels must stay" in told["conv1"]


def test_layers_that_go_together_are_named():
    told = why(prune(net(RESIDUAL), run=RunConfig(bench_seconds=0)).content)
    assert "only be removed together" in told["stem"]
    assert "branch" in told["stem"]
    assert "stem" in told["branch"]


def test_channels_follow_the_layer_before():
    story = next(s for s in stories(bare()) if s.name == "conv2")
    assert (story.channels, story.filters) == ((8, 4), (12, 6))
    assert "Reads 4 of 8 channels" in " ".join(story.why)


def test_rounding_is_told():
    content = prune(net(RESIDUAL), config=PruneConfig(ratio=0.7, round_to=4), run=RunConfig(bench_seconds=0)).content
    (group,) = content["groups"]
    assert group["after"] == 4
    assert "0.7 alone would keep 2; rounding to multiples of 4 gave 4" in why(content)["stem"]
    content = prune(net(RESIDUAL), config=PruneConfig(ratio=0.5, round_to=None), run=RunConfig(bench_seconds=0)).content
    assert "alone would keep" not in why(content)["stem"]


def test_other_ratios_are_not_taken_for_the_common_one():
    config = PruneConfig(ratio=0.25, round_to=4, ratio_for=(("conv2", 0.5),))
    content = prune(net(CNN), config=config, run=RunConfig(bench_seconds=0)).content
    assert content["how"]["ratio_for"] == {"conv2": 0.5}
    assert "alone would keep" not in why(content)["conv2"]


def test_what_was_left_alone_is_told():
    content = prune(net(RESIDUAL.replace("branch", "b2")), run=RunConfig(bench_seconds=0)).content
    content["groups"][0] |= {"after": 8}
    assert "takes nothing from it: its width was rounded up" in why(content)["stem"]
    ignored = content | {"how": content["how"] | {"ignore": ["stem"]}}
    assert "it was ignored" in why(ignored)["stem"]
    assert "keeps all of it" in why(content | {"target": {"kind": "speedup"}})["stem"]
    noted = content | {"notes": ["stem: bn-gamma cannot rank it, left dense"]}
    assert "Bn-gamma cannot rank it, left dense." in why(noted)["stem"]


def test_time_that_did_not_follow_is_told():
    content = copy.deepcopy(bare()) | {"bench": {"layers": LAYERS}}
    told = {story.name: story for story in stories(content)}
    assert told["conv2"].ms == (2.0, 1.9)
    assert "brought no time" in " ".join(told["conv2"].why)
    assert "brought no time" not in " ".join(told["conv1"].why)
    assert told["conv2"].efficiency == pytest.approx(0.26)
