"""The FLOPs multipliers that papers print follow from their ratios: no data, no training."""

import pytest

import slimnet

#: Ratios of GReg (Wang et al. 2021), appendix: per stage, and what is skipped; the multiplier they print.
RESNET_50 = {1.49: (0.3, 0.3, 0.3, 0.14), 2.31: (0.6, 0.6, 0.6, 0.21), 2.56: (0.74, 0.74, 0.6, 0.21),
             3.06: (0.68, 0.68, 0.68, 0.5)}  # fmt: skip


@pytest.fixture(scope="module")
def traces():
    shapes = {"models:resnet56": (1, 3, 32, 32), "models:vgg19": (1, 3, 32, 32),
              "torchvision:resnet34": (1, 3, 224, 224), "torchvision:resnet50": (1, 3, 224, 224)}  # fmt: skip
    found = {}

    def get(arch):
        if arch not in found:
            found[arch] = slimnet.trace(slimnet.load(None, arch=arch, inputs=shapes[arch]))
        return found[arch]

    return get


def multiplier(trace, **budget):
    plan = slimnet.plan(trace, round_to=None, coupled=False, **budget)
    return sum(trace.macs().values()) / sum(trace.macs(trace.removed(plan)).values())


@pytest.mark.slow
def test_dense_networks_have_the_published_size(traces):
    assert sum(traces("models:resnet56").macs().values()) == pytest.approx(125.49e6, rel=1e-4)
    assert sum(traces("models:vgg19").macs().values()) == pytest.approx(398.18e6, rel=1e-3)
    assert traces("models:resnet56").parameters() == 853_018


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 1.99), (0.7, 3.59), (0.9, 11.58), (0.925, 15.20), (0.95, 19.85)])
def test_resnet56_at_one_ratio(traces, ratio, expected):
    """Only the first convolution of each block; the stem and what ends in a residual sum stay."""
    assert multiplier(traces("models:resnet56"), ratio=ratio) == pytest.approx(expected, abs=0.005)


def test_resnet56_of_table_2(traces):
    ratios = [("layer1", 0.75), ("layer2", 0.75), ("layer3", 0.32)]
    assert multiplier(traces("models:resnet56"), ratio_for=ratios) == pytest.approx(2.5546, abs=0.0005)


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 3.61), (0.6, 5.42), (0.7, 8.89), (0.8, 17.34), (0.9, 45.53)])
def test_vgg19_at_one_ratio(traces, ratio, expected):
    """All convolutions but the first."""
    trace = traces("models:vgg19")
    assert multiplier(trace, ratio=ratio, ignore=[trace.groups[0].name]) == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("printed", RESNET_50)
def test_resnet50_of_table_3(traces, printed):
    """The ratios as stated give 3 to 7 % more than is printed (1.54, 2.43, 2.71, 3.28); why is not known."""
    ratios = [(f"layer{k + 1}", r) for k, r in enumerate(RESNET_50[printed])]
    got = multiplier(traces("torchvision:resnet50"), ratio_for=ratios)
    assert printed < got < 1.08 * printed


def test_resnet34_of_table_3(traces):
    ratios = [("layer1", 0.5), ("layer2", 0.6), ("layer3", 0.4)]
    skipped = ["layer4", *(f"layer{s}.{b}" for s, b in ((1, 0), (2, 0), (2, 3), (3, 0), (3, 5)))]
    got = multiplier(traces("torchvision:resnet34"), ratio_for=ratios, ignore=skipped)
    assert got == pytest.approx(1.32, abs=0.01)
