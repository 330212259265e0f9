"""Iterative pruning of single weights with rewinding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import slimnet
from slimnet.analysis.compressibility import gini, pq_index
from slimnet.common.errors import BadInput
from slimnet.pipeline.config import IterativeConfig as Config
from slimnet.pipeline.config import RunConfig
from slimnet.pipeline.iterative import Mask, prune_single, search
from slimnet.runtime.accuracy import accuracy_of
from slimnet.training.phase import Phase
from tests.networks.files import MODULES
from tests.networks.modules import mlp, small_digits

QUICK = Phase(epochs=1, lr=0.1, batch_size=32, best=True)
LOTTERY = Config(method="lottery", iterations=2)
TEN = np.array([10.0, *[1.0] * 9], np.float32)


def seeded():
    torch.manual_seed(0)
    return mlp()


def kept(mask):
    return {name: int(rows.sum()) for name, rows in mask.kept.items()}


def mask_of(**weights):
    return Mask({n: w.shape for n, w in weights.items()}, {n: np.ones((len(w), w[0].size), bool) for n, w in
                                                           weights.items()})  # fmt: skip


# -- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pair", "left"), [((0.5, 1.0), 8), ((1.0, 2.0), 4)])
def test_sap_takes_what_the_index_allows(pair, left):
    mask = mask_of(w=TEN[None]).without({"w": TEN}, Config(p=pair[0], q=pair[1]))
    assert mask.kept["w"].sum() == left
    assert mask.kept["w"][0, 0], "the largest stays"


def test_lottery_tickets_shrink_geometrically():
    """What is left after t iterations is .8^t, but for rounding."""
    w = np.random.default_rng(0).normal(size=(100, 1000)).astype(np.float32)
    mask = mask_of(w=w)
    for _ in range(10):
        mask = mask.without({"w": w}, Config(method="lottery"))
    assert mask.remaining == pytest.approx(0.8**10, rel=1e-3) == pytest.approx(0.1074, rel=1e-3)
    threshold = np.abs(w[mask.kept["w"]]).min()
    assert (np.abs(w[~mask.kept["w"]]) <= threshold).all()


def test_scopes_compare_different_weights():
    """One layer is ten times larger, and in it one row."""
    small, large = np.arange(1, 11.0).reshape(2, 5), 10 * np.arange(1, 11.0).reshape(2, 5)
    weights = {"a": small.astype(np.float32), "b": large.astype(np.float32)}
    rows = {}
    for scope in ("global", "layer", "neuron"):
        mask = mask_of(**weights).without(weights, Config(method="lottery", scope=scope, fraction=0.4))
        rows[scope] = {name: k.sum(axis=1).tolist() for name, k in mask.kept.items()}
    assert rows == {
        "global": {"a": [0, 2], "b": [5, 5]},
        "layer": {"a": [1, 5], "b": [1, 5]},
        "neuron": {"a": [3, 3], "b": [3, 3]},
    }


def test_the_index_counts_only_what_is_left():
    w = np.r_[TEN, np.zeros(10, np.float32)]
    mask = Mask({"w": (1, 20)}, {"w": np.arange(20)[None] < 10})
    assert mask.without({"w": w}, Config()).kept["w"].sum() == 8


def test_masks_cover_weights_and_nothing_else():
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4))
    mask = Mask.whole(module)
    assert {name: rows.shape for name, rows in mask.kept.items()} == {"0.weight": (3, 18), "3.weight": (4, 3)}
    assert {name: tuple(m.shape) for name, m in mask.tensors().items()} == mask.shapes
    with pytest.raises(BadInput, match="nothing to prune"):
        Mask.whole(nn.BatchNorm1d(3))


# -- search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sap", "lottery", "one-shot"])
@pytest.mark.parametrize("scope", ["global", "layer", "neuron"])
def test_a_search(method, scope):
    module = seeded()
    found = search(module, small_digits(), Config(method=method, scope=scope, iterations=2), QUICK, "cpu")
    left = [row["remaining"] for row in found.iterations]
    assert [row["iteration"] for row in found.iterations] == [0, 1, 2]
    assert left[0] == 1 > left[1] > left[2] > 0.3
    params = dict(module.named_parameters())
    assert found.masks.keys() == {name for name, p in params.items() if p.ndim > 1}
    assert all((params[name][~mask] == 0).all() for name, mask in found.masks.items())
    assert sum(int(m.sum()) for m in found.masks.values()) == sum(found.iterations[-1]["left"].values())


def test_every_iteration_starts_from_the_first_weights():
    """Without training steps that change anything, what is left has its first value."""
    module = seeded()
    first = {name: p.detach().clone() for name, p in module.named_parameters()}
    found = search(module, small_digits(), LOTTERY, replace(QUICK, lr=0.0), "cpu")
    for name, p in module.named_parameters():
        mask = found.masks.get(name, torch.ones_like(p, dtype=torch.bool))
        assert torch.equal(p, first[name] * mask)


def test_batch_norm_is_rewound_too():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    few = Config(method="lottery", fraction=0.001)
    once, twice = (search(m, small_digits(), replace(few, iterations=n), QUICK, "cpu").iterations
                   for m, n in ((module, 0), (module, 0)))  # fmt: skip
    assert once[0]["epochs"] != twice[0]["epochs"], "a search starts from the weights it is given"
    rows = search(
        module, small_digits(), Config(method="lottery", iterations=1, fraction=1e-6), QUICK, "cpu"
    ).iterations
    assert rows[0]["epochs"] == rows[1]["epochs"], "nothing was taken, so both iterations are the same"


def test_one_shot_ranks_by_the_dense_network():
    def masks(method):
        return search(seeded(), small_digits(), Config(method=method, iterations=2), replace(QUICK, epochs=4), "cpu")

    shot, ticket = masks("one-shot"), masks("lottery")
    assert all(torch.equal(w, ticket.dense[name]) for name, w in shot.dense.items())
    assert not all(torch.equal(mask, ticket.masks[name]) for name, mask in shot.masks.items())
    flat = torch.cat([shot.dense[name].abs().flatten() for name in shot.masks])
    stays = torch.cat([mask.flatten() for mask in shot.masks.values()])
    assert flat[stays].min() >= flat[~stays].max()


def test_what_is_recorded():
    module = seeded()
    data = small_digits()
    (row,) = search(module, data, Config(iterations=0, scope="layer"), replace(QUICK, epochs=3), "cpu").iterations
    weights = [p.detach().numpy().ravel() for p in module.parameters() if p.ndim > 1]
    assert row["pq"] == pytest.approx([np.mean([pq_index(w, p, q) for w in weights]) for p, q in ((0.5, 1), (1, 2))])
    assert row["gini"] == pytest.approx(np.mean([gini(w) for w in weights]))
    assert row["accuracy"] == max(record["accuracy"] for record in row["epochs"]), "of the best epoch on validation"
    assert 0 <= row["test"] <= 1


def test_without_a_validation_split_the_last_epoch_counts():
    data = replace(small_digits(), val=None)
    module = seeded()
    (row,) = search(module, data, Config(iterations=0), replace(QUICK, epochs=3), "cpu").iterations
    assert row["accuracy"] is None
    other = seeded()
    search(other, data, Config(iterations=0), replace(QUICK, epochs=3, best=False), "cpu")
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), other.parameters(), strict=True))


def test_a_search_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = seeded()
    expected = search(whole, small_digits(), LOTTERY, QUICK, "cpu")
    file = tmp_path / "search.pt"
    from slimnet.pipeline import iterative as sap

    train, runs = sap._train, []

    def interrupted(*args):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append(args)
        return train(*args)

    monkeypatch.setattr(sap, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(seeded(), small_digits(), LOTTERY, QUICK, "cpu", file)
    monkeypatch.setattr(sap, "_train", train)
    module = seeded()
    found = search(module, small_digits(), LOTTERY, QUICK, "cpu", file, resume=True)
    assert found.iterations == expected.iterations
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), whole.parameters(), strict=True))
    with pytest.raises(BadInput, match="search="):
        search(seeded(), small_digits(), Config(method="sap", iterations=2), QUICK, "cpu", file, resume=True)


# -- to a file -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sap")
    config = Config(method="lottery", iterations=5, fraction=0.5, train=replace(QUICK, epochs=4), device="cpu")
    run = RunConfig(out=folder, bench_seconds=0, data=small_digits())
    return folder, prune_single(f"{MODULES}:mlp", None, config, run).content


def test_the_file_has_the_zeros_of_the_mask(result):
    folder, report = result
    params = [v for v in slimnet.load(folder / "slim.onnx").params().values() if v.ndim > 1]
    nonzero = sum(np.count_nonzero(w) for w in params)
    left = report["training"]["search"]["iterations"][-1]
    assert nonzero == report["sparsity"]["nonzero"] <= sum(left["left"].values())
    assert left["remaining"] == pytest.approx(0.5**5, rel=0.02)


def test_channels_that_the_mask_empties_are_gone(result):
    folder, report = result
    assert report["params"]["after"] < report["params"]["before"]
    assert report["verify"]["exact"]
    assert report["verify"]["dense_error"] < 1e-5
    assert report["method"] == "lottery"
    assert not (folder / "checkpoints").exists()


def test_accuracies_are_those_of_the_files(result):
    folder, report = result
    network = slimnet.load(folder / "slim.onnx")
    assert report["accuracy"]["after"] == accuracy_of(network.model, network, small_digits().test)
    rows = report["training"]["search"]["iterations"]
    assert report["accuracy"]["before"] == rows[0]["test"]
    assert report["accuracy"]["after"] == rows[-1]["test"]


def test_empty_filters_that_leave_a_constant_are_named(tmp_path):
    config = Config(method="lottery", iterations=2, fraction=0.85, train=QUICK, device="cpu")
    run = RunConfig(out=tmp_path, bench_seconds=0, data=small_digits())
    report = prune_single(f"{MODULES}:cnn", None, config, run).content
    assert any("leave a constant" in note for note in report["notes"])


@pytest.mark.parametrize(
    "wrong", [{"method": "magic"}, {"scope": "everywhere"}, {"fraction": 1.0}, {"iterations": -1}], ids=str
)
def test_settings_that_mean_nothing(wrong):
    with pytest.raises(BadInput):
        Config(**wrong)
