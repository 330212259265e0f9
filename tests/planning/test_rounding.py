from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimnet.graph.units import Axis
from slimnet.planning.budget import choose, take
from slimnet.planning.rounding import _Parameters
from slimnet.planning.widths import Widths
from slimnet.runtime.machine import native_block
from tests.networks.planned import Net, chain, densenet, lengths, padded_resnet, parameters, resnet, scores


def kept(net: Any, ratio: float, round_to: Any = "auto") -> dict[str, int]:
    removed = choose(net, scores(net), ratio, round_to=round_to)
    return {group.name: int((~removed[group.units]).sum()) for group in net.groups}


def drift(net: Any, ratio: float, round_to: Any = "auto") -> float:
    """Points of parameters that rounding adds."""
    return 100 * (
        parameters(net, choose(net, scores(net), ratio, round_to=round_to))
        - parameters(net, choose(net, scores(net), ratio))
    )


BIG = {
    "resnet": lambda: resnet(64, 128, 256, 512),
    "chain": lambda: chain(64, 64, 128, 128, 256, 256, 512, 512),
    "densenet": lambda: densenet(64, 32, 12),
    "padded": lambda: padded_resnet(16, 32, 64, blocks=9),
}


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(
    ("name", "ratio"), [*((name, ratio) for name in BIG for ratio in (0.2, 0.3, 0.45, 0.5)), ("padded", 0.8)]
)
def test_parameters_stay_within_two_points(name: str, ratio: float) -> None:
    assert abs(drift(BIG[name](), ratio)) <= 2


def recurrent() -> Any:
    """Both axes of one of its weights belong to the same units, which take four indices each of another's."""
    net: Any = Net()
    hidden, rest = net.group(40), net.group(24)
    net.weight("recurrence", hidden, hidden, kernel=1, layout="other")
    net.weight("input", rest, hidden, repeat=4)
    net.weight("output", -10, rest)
    return net.done()


@pytest.mark.parametrize("make", [*BIG.values(), recurrent], ids=[*BIG, "recurrent"])
@pytest.mark.parametrize("part", [0.4, 0.9])
def test_the_parameters_one_more_unit_brings_are_counted_exactly(make: Any, part: float) -> None:
    """Between a unit more and a unit less lie twice as many, since no tensor has more than two axes of a group."""
    net = make()
    values = scores(net)
    total = sum(np.prod(shape) for shape in net.param_sizes.values())
    kept = np.array([int(part * len(group.units)) for group in net.groups])
    slope = _Parameters.of(net).slope(kept)
    for g, one in enumerate(np.eye(len(kept), dtype=int)[:12]):
        more, fewer = (total * parameters(net, take(net, values, kept + change)) for change in (one, -one))
        assert slope[g] == pytest.approx((more - fewer) / 2, rel=1e-9)


@pytest.mark.parametrize("name", ["resnet", "chain", "densenet"])
@pytest.mark.parametrize("ratio", [0.3, 0.45, 0.6, 0.8])
def test_every_axis_is_aligned(block: int, name: str, ratio: float) -> None:
    net = BIG[name]()
    left = lengths(net, choose(net, scores(net), ratio, round_to="auto"))
    assert {axis: length for axis, length in left.items() if length % block} == {}


@pytest.mark.parametrize("block", [4, 8, 32])
def test_a_number_aligns_everything_to_it(block: int) -> None:
    net = resnet(64, 128, 256)
    left = lengths(net, choose(net, scores(net), 0.45, round_to=block))
    assert {axis: length for axis, length in left.items() if length % block} == {}
    assert abs(drift(net, 0.45, block)) <= 2


@pytest.mark.usefixtures("block")
def test_an_aligned_plan_stays_as_it_is() -> None:
    assert kept(resnet(64, 128, 256), 0.5) == kept(resnet(64, 128, 256), 0.5, None)


def test_the_sum_behind_a_concat_is_aligned(block: int) -> None:
    """Two narrow branches and 8 fixed channels are joined; a wide layer behind pays for what they keep."""
    net: Any = Net()
    left, right, wide = net.group(24), net.group(32), net.group(256)
    net.weight("left.weight", left, -3)
    net.weight("right.weight", right, -3)
    net.weight("join.weight", wide, [left, right, -8])
    net.weight("after.weight", -64, wide)
    net.done()
    counts = lengths(net, choose(net, scores(net), 0.45, round_to="auto"))
    assert counts["join.weight in"] == 8 + counts["left.weight out"] + counts["right.weight out"]
    assert counts["join.weight in"] % 4 == 0
    assert counts["join.weight out"] % block == 0


def test_the_stream_of_an_option_a_shortcut_is_aligned_as_a_whole(block: int) -> None:
    net = padded_resnet(16, 32, 64)
    left = lengths(net, choose(net, scores(net), 0.5, round_to="auto"))
    for stage in (1, 2):
        assert left[f"layer{stage}.0.conv2.weight out"] % block == 0


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_streams_of_parts_too_narrow_for_blocks_end_on_the_fast_path(ratio: float) -> None:
    """The parts are 12 and 16 wide, and what they add up to is loaded four channels at once."""
    net = padded_resnet(16, 40, 72)
    left = lengths(net, choose(net, scores(net), ratio, round_to="auto"))
    assert {axis: length for axis, length in left.items() if length % 4} == {}


def test_an_axis_that_takes_more_of_some_units_than_of_others_is_left_alone() -> None:
    """Its length does not follow from how many units stay, so no number of them would align it."""
    net = chain(24, 64)
    kept, free = np.array([13, 35]), np.ones(2, bool)
    plain = Widths.of(net, kept, free, 8)
    units = net.groups[0].units
    net.axes.append(Axis("half of them twice", np.append(units, units[:12]), "conv", 1, 0))
    uneven = Widths.of(net, kept, free, 8)
    assert (uneven.takes == plain.takes).all()
    assert (uneven.weight == plain.weight).all()


def test_only_the_lowest_units_of_a_rounded_group_go() -> None:
    net = chain(64)
    values = scores(net)
    removed = choose(net, values, 0.45, round_to=16)
    count = int(removed.sum())
    assert (64 - count) % 16 == 0
    assert set(np.flatnonzero(removed)) == set(np.argsort(values[0])[:count])


def test_a_unit_may_take_many_indices_of_an_axis(block: int) -> None:
    """Behind a Flatten of 7 x 7 every channel has 49 inputs; the convolution decides the width."""
    net: Any = Net()
    channels = net.group(64)
    hidden = net.group(512)
    net.weight("conv.weight", channels, -3)
    net.weight("fc1.weight", hidden, channels, kernel=1, layout="gemm", repeat=49)
    net.weight("fc2.weight", -10, hidden, kernel=1, layout="gemm")
    net.done()
    left = lengths(net, choose(net, scores(net), 0.45, round_to="auto"))
    assert left["conv.weight out"] % block == 0
    assert left["fc1.weight in"] == 49 * left["conv.weight out"]
    assert left["fc1.weight out"] % block == 0


def test_a_layer_no_wider_than_a_block_is_kept_whole_if_others_can_pay_for_it(block: int) -> None:
    assert kept(resnet(block, 128, 256), 0.45)["stem.weight"] == block


@pytest.mark.usefixtures("block")
def test_a_network_of_narrow_layers_is_pruned_as_asked() -> None:
    assert kept(chain(8, 8, 8), 0.5) == {"conv0.weight": 4, "conv1.weight": 4, "conv2.weight": 4}


def test_channels_cut_alike_in_every_conv_group_keep_whole_blocks_per_group(block: int) -> None:
    net: Any = Net()
    wide = net.group(64)
    net.weight("before.weight", [wide] * 4, -3)
    net.weight("grouped.weight", wide, -16, layout="grouped", grouped=4)
    net.done()
    left = lengths(net, choose(net, scores(net), 0.45, round_to="auto"))
    assert left["grouped.weight out"] % (4 * block) == 0


@pytest.mark.usefixtures("block")
def test_whole_conv_groups_may_go_in_any_number() -> None:
    """32 conv groups of 16 channels: cutting some of them leaves the others as wide as they were."""
    net: Any = Net()
    groups = net.group(32)
    net.weight("grouped.weight", groups, -16, layout="grouped", grouped=32, repeat=16)
    net.done()
    assert kept(net, 0.45) == kept(net, 0.45, None)


@pytest.mark.usefixtures("block")
def test_layers_that_the_runtime_does_not_care_for_are_left_alone() -> None:
    net: Any = Net()
    hidden = net.group(50)
    net.weight("lstm.weight", hidden, -8, layout="other")
    net.weight("lstm.recurrence", hidden, hidden, layout="other")
    net.done()
    assert kept(net, 0.45) == kept(net, 0.45, None)
    assert kept(net, 0.45, 8)["lstm.weight"] % 8 == 0


def test_ignored_groups_do_not_change_but_count_where_they_meet(block: int) -> None:
    net: Any = Net()
    a, b = net.group(24), net.group(64)
    net.weight("a.weight", a, -3)
    net.weight("b.weight", b, -3)
    net.weight("join.weight", -64, [a, b])
    net.done()
    removed = choose(net, scores(net), 0.45, ignore=["a.weight"], round_to="auto")
    left = lengths(net, removed)
    assert left["a.weight out"] == 24
    assert left["b.weight out"] % block == 0


def test_global_scope_is_rounded_too(block: int) -> None:
    net = resnet(64, 128, 256)
    left = lengths(net, choose(net, scores(net), 0.5, scope="global", round_to="auto"))
    assert {axis: length for axis, length in left.items() if length % block} == {}


@pytest.mark.usefixtures("block")
def test_no_group_falls_far_below_what_was_wanted() -> None:
    net = padded_resnet(16, 32, 64, blocks=9)
    wanted, rounded = kept(net, 0.45, None), kept(net, 0.45)
    assert all(2 * rounded[name] >= wanted[name] for name in wanted)


@pytest.mark.usefixtures("block")
def test_a_network_is_looked_at_no_more_than_twice_per_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many groups there are: 200 of them are rounded at once."""
    looks = 0
    cost = Widths.cost

    def counted(self: Widths, rows: Any, lengths: Any) -> Any:
        nonlocal looks
        looks += 1
        return cost(self, rows, lengths)

    monkeypatch.setattr(Widths, "cost", counted)
    net = chain(*[96, 128, 192, 256] * 50)
    choose(net, scores(net), 0.45, round_to="auto")
    assert 1 < looks <= 2 * len(net.groups)


@pytest.mark.parametrize(("flags", "block"), [("fpu avx2 avx512f avx512dq", 16), ("fpu avx2", 8)])
def test_the_block_follows_the_processor(flags: str, block: int, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert native_block(str(tmp_path / "cpuinfo")) == block
    assert native_block(str(tmp_path / "none")) == 8
