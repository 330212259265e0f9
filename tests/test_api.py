"""The Python API: the README's example as it is written there, and what it promises of its names."""

from __future__ import annotations

import inspect
import re
import typing

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

import slimnet
from slimnet.data.sources.digits import load_digits_split
from tests.networks.files import ROOT
from tests.networks.graphs import feeds, net, run

TEXT = """(float[2,3,6,6] x) => (y) <float[8,3,3,3] w, float[8] b, float[4,8,1,1] v>
    { a = Conv(x, w, b) c = Relu(a) y = Conv(c, v) }"""
FUNCTIONS = [
    *("bench", "export", "load", "load_slim", "mask", "picker", "plan", "plan_of", "prune", "slim", "trace", "verify"),
]


def readme_block(of: str) -> str:
    """The Python example of the README that holds a text."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = (block for block in blocks if of in block)
    return block


def test_one_threshold_compares_scores_as_the_method_says():
    """The gammas of a batch norm are compared as they are, the norms of filters relative to those of their layer."""
    twice = net(
        """(float[1,3,4,4] x) => (y) <float[8,3,1,1] w1, float[8,8,1,1] w2, float[2,8,1,1] v, float[8] low,
            float[8] high, float[8] mean, float[8] var>
        { a = Conv(x, w1) b = BatchNormalization(a, high, mean, mean, var)
          c = Conv(b, w2) d = BatchNormalization(c, low, mean, mean, var) y = Conv(d, v) }""",
        low=np.linspace(0.1, 0.5, 8),
        high=np.linspace(1, 5, 8),
        w2=100 * np.random.default_rng(0).standard_normal((8, 8, 1, 1)),
    )
    traced = slimnet.trace(twice)

    def planned(method: str) -> list[int]:
        removed = traced.removed(slimnet.plan(traced, method, 0.25, scope="global", round_to=None))
        config = slimnet.PruneConfig(method=method, ratio=0.25, scope="global", round_to=None)
        report = slimnet.prune(twice, config, slimnet.RunConfig(bench_seconds=0))
        kept = [int((~removed[group.units]).sum()) for group in traced.groups]
        assert [group["after"] for group in report.content["groups"]] == kept
        return kept

    assert planned("bn-gamma") == [8, 4]
    assert planned("l1") not in ([8, 4], [4, 8])


def test_the_training_loop_of_the_readme_ends_in_a_file_of_the_trained_network(tmp_path, monkeypatch):
    """A method in somebody's own loop: its plan takes the smaller filters, the file is as accurate as the module."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    x, y = (torch.from_numpy(a) for a in load_digits_split()["train"])
    names: dict[str, typing.Any] = {
        "module": module,
        "batches": list(zip(x.split(64), y.split(64), strict=True)) * 10,
        "cross_entropy": nn.functional.cross_entropy,
        "optimizer": torch.optim.Adam(module.parameters(), 0.01),
    }
    exec(readme_block("method.before_forward()"), names)
    kept = names["plan"].kept["0.weight"][0]
    norms = module[0].weight.detach().abs().sum((1, 2, 3))
    assert len(kept) == 8
    assert set(kept) == set(norms.argsort()[8:].tolist())
    slimnet.verify(names["trace"], names["plan"])
    x, y = (torch.from_numpy(a) for a in load_digits_split()["test"])
    session = ort.InferenceSession("slim.onnx")
    classes = [session.run(None, {"input": image[None].numpy()})[0].argmax() for image in x]
    trained, exported = module.eval()(x).argmax(1), torch.tensor(classes)
    assert (trained == y).float().mean() > 0.95
    assert abs((exported == y).float().mean() - (trained == y).float().mean()) < 0.02
    with torch.no_grad():
        for p in module[1].parameters():
            p[[k for k in range(16) if k not in kept]] = 0
    assert torch.equal(module(x).argmax(1), exported)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    """On the embedded network."""
    block = readme_block("slimnet.load_slim")
    load = 'slimnet.load("resnet50.pth", arch="torchvision:resnet50", inputs="1x3x224x224")'
    assert load in block
    monkeypatch.chdir(tmp_path)
    digits = slimnet.load(ROOT / "models" / "digits_resnet.pt")
    names: dict[str, typing.Any] = {"digits": digits}
    exec(block.replace(load, "digits"), names)
    onnx.checker.check_model("slim.onnx")
    x = np.random.default_rng(0).random((1, 1, 8, 8), np.float32)
    assert names["report"].content["how"]["ratio"] == 0.5
    (logits,) = ort.InferenceSession("slim.onnx").run(None, {"x": x})
    assert torch.allclose(names["module"](torch.from_numpy(x)), torch.from_numpy(logits), atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_typed_and_documented(name):
    function = getattr(slimnet, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert function.__doc__


def test_every_public_name_is_there():
    assert set(slimnet.__all__) >= {*FUNCTIONS, "Net", "Trace", "Plan", "Verification", "SlimnetError", "BadInput"}
    assert all(getattr(slimnet, name) is not None for name in slimnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        slimnet.nothing  # noqa: B018


def test_mask_and_slim_agree_and_leave_the_network_alone():
    dense = net(TEXT)
    before = ir.to_proto(dense.model).SerializeToString()
    found = slimnet.trace(dense)
    chosen = slimnet.plan(found, method="l2", ratio=0.25, round_to=None)
    masked, small = slimnet.mask(found, chosen), slimnet.slim(found, chosen)
    feed = feeds(dense)
    np.testing.assert_allclose(run(masked, feed)[0], run(small, feed)[0], rtol=1e-4, atol=1e-5)
    assert ir.to_proto(dense.model).SerializeToString() == before
    assert small.graph.initializers["w"].const_value.shape.numpy() == (6, 3, 3, 3)


def test_a_plan_of_ones_own():
    found = slimnet.trace(net(TEXT))
    removed = np.zeros(found.n_units, bool)
    removed[found.groups[0].units[[0, 7]]] = True
    chosen = found.plan(removed)
    assert chosen.kept["w"][0].tolist() == [1, 2, 3, 4, 5, 6]
    checked = slimnet.verify(found, chosen)
    assert checked.exact
    assert checked.proven == ["w"]


def test_a_plan_survives_being_saved(tmp_path):
    found = slimnet.trace(net(TEXT))
    chosen = slimnet.plan(found, ratio=0.5)
    chosen.save(tmp_path / "plan.json")
    again = slimnet.Plan.load(tmp_path / "plan.json")
    assert np.array_equal(found.removed(again), found.removed(chosen))
    assert again.provenance == {**chosen.provenance}


def test_a_plan_remembers_how_the_network_was_traced():
    found = slimnet.trace(net(TEXT), allow_inexact=True, prefer="heads")
    how = slimnet.plan(found).provenance
    assert (how["allow_inexact"], how["prefer"]) == (True, "heads")


def test_verify_raises_where_a_network_is_not_the_slim_one():
    found = slimnet.trace(net(TEXT))
    chosen = slimnet.plan(found)
    with pytest.raises(slimnet.VerifyFailed, match="differs from the masked one"):
        slimnet.verify(found, chosen, net(TEXT).model)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("junk.onnx", b"eggs, milk", "is not an ONNX file, or is truncated"),
        ("junk.json", b"eggs, milk", "is not an ONNX file, or is truncated"),
        ("empty.onnx", b"", "holds no network"),
        ("missing.onnx", None, "no such file; check the path"),
    ],
)
def test_verify_tells_what_is_no_network(tmp_path, name, content, says):
    found = slimnet.trace(net(TEXT))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(slimnet.BadInput, match=rf"{name}: {says}"):
        slimnet.verify(found, slimnet.plan(found), tmp_path / name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 1.0}, "ratio 1 is not between"),
        ({"method": "best"}, "'best' is not known"),
        ({"seed": 1}, "no option 'seed'"),
        ({"method": "random", "seed": "one"}, "option seed=one is not of type int"),
        ({"scope": "all"}, "'all' is not known"),
        ({"ignore": ["nothing"]}, "'nothing' matches nothing"),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
def test_wrong_options_are_told(options, says):
    with pytest.raises(slimnet.BadInput, match=says):
        slimnet.plan(slimnet.trace(net(TEXT)), **options)


def test_export_writes_a_network_that_onnx_accepts(tmp_path):
    found = slimnet.trace(net(TEXT))
    slimnet.export(slimnet.slim(found, slimnet.plan(found)), tmp_path / "new" / "slim.onnx")
    onnx.checker.check_model(str(tmp_path / "new" / "slim.onnx"), full_check=True)


def test_a_module_in_memory():
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    dense = slimnet.load(module, inputs="2x4")
    report = slimnet.prune(dense, "l1").content
    assert report["params"] == {"before": 4 * 16 + 16 + 16 * 3 + 3, "after": 4 * 8 + 8 + 8 * 3 + 3}
    assert report["verify"]["exact"]
