"""The loop learns, keeps masks, resumes exactly, and stops when it has to."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import slimnet
from slimnet.common.errors import BadInput, TrainingFailed
from slimnet.data.samples import Samples
from slimnet.methods import create
from slimnet.training import checkpoint
from slimnet.training.accelerator import accelerator_for
from slimnet.training.loop import Run
from slimnet.training.measure import accuracy, estimate_batch_norm
from slimnet.training.phase import Phase
from tests.networks.modules import cnn, mlp, small_digits


def run(module, data, phase, **rest):
    return Run(accelerator_for(phase, "cpu"), module, data, phase, **rest)


def seeded(make):
    torch.manual_seed(0)
    return make()


def weights(module):
    return torch.cat([t.double().flatten() for t in module.state_dict().values()])


def test_it_learns_the_digits():
    module, data = seeded(mlp), small_digits()
    history = run(module, data, Phase(epochs=15, lr=0.1, batch_size=32)).fit()
    assert [record["epoch"] for record in history] == list(range(15))
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    assert accuracy(module, data.test) > 0.85


def test_the_random_generators_of_the_program_around_it_are_left_alone():
    module, data = seeded(mlp), small_digits(64)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run(module, data, Phase(epochs=1, batch_size=32)).fit()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("own", "sgd", "smoothing", "clip"),
    [
        ({}, {}, 0.0, math.inf),
        ({"nesterov": True}, {"nesterov": True}, 0.0, math.inf),
        ({"nesterov": True, "momentum": 0.0}, {"momentum": 0.0}, 0.0, math.inf),
        ({"smoothing": 0.3}, {}, 0.3, math.inf),
        ({"clip": 0.05}, {}, 0.0, 0.05),
        ({"weight_decay": 0.1}, {"weight_decay": 0.1}, 0.0, math.inf),
    ],
    ids=["plain", "nesterov", "no momentum to look ahead with", "label smoothing", "clipped gradients", "weight decay"],
)
def test_one_epoch_is_what_plain_torch_does(own, sgd, smoothing, clip):
    """SGD with momentum and decay on the same batches, whatever the settings."""
    data = small_digits(64)
    phase = Phase(epochs=3, lr=0.05, batch_size=64, schedule="step:2", **own)
    module = seeded(mlp)
    other = copy.deepcopy(module)
    run(module, data, phase).fit()
    optimizer = torch.optim.SGD(other.parameters(), 0.05, **{"momentum": 0.9, "weight_decay": 5e-4} | sgd)
    x, y = (torch.from_numpy(a) for a in data.train.__getitems__(np.arange(64)))
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.05 if epoch < 2 else 0.005
        optimizer.zero_grad()
        F.cross_entropy(other(x), y, label_smoothing=smoothing).backward()
        norm = nn.utils.clip_grad_norm_(other.parameters(), clip)
        assert clip == math.inf or norm > clip, "there is something to clip"
        optimizer.step()
    assert torch.allclose(weights(module), weights(other), atol=1e-6)


@pytest.mark.parametrize("method", ["group-hs", None])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resuming_gives_the_same_weights(tmp_path, method, optimizer):
    data, phase = small_digits(), Phase(epochs=4, lr=0.01, batch_size=64, optimizer=optimizer, best=True)

    def fresh(epochs, file):
        module = seeded(cnn)
        groups = slimnet.trace(slimnet.load(copy.deepcopy(module), inputs="1x1x8x8")).groups
        job = run(module, data, dataclasses.replace(phase, epochs=epochs), file=file)
        if method is not None:
            job.method = create(method, groups, dict(module.named_parameters()))
        return job

    whole = fresh(4, None)
    whole.fit()
    killed = fresh(4, tmp_path / "run.pt")
    original = killed._record

    def record_and_die(epoch, loss):
        original(epoch, loss)
        if epoch == 1:
            killed._save()
            raise KeyboardInterrupt

    killed._record = record_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    resumed = fresh(4, tmp_path / "run.pt")
    history = resumed.fit(resume=True)
    assert len(history) == 4
    assert torch.equal(weights(resumed.module), weights(whole.module))


def test_resuming_with_other_settings_names_the_difference(tmp_path):
    data, file = small_digits(64), tmp_path / "run.pt"
    run(seeded(mlp), data, Phase(epochs=1, lr=0.1), file=file).fit()
    with pytest.raises(BadInput, match=r"run\.pt.*lr=0\.1.*0\.2"):
        run(seeded(mlp), data, Phase(epochs=1, lr=0.2), file=file).fit(resume=True)


def test_a_damaged_checkpoint_is_told_apart(tmp_path):
    file = tmp_path / "run.pt"
    file.write_bytes(b"PK\x03\x04 nothing of the kind")
    with pytest.raises(BadInput, match=r"run\.pt"):
        run(seeded(mlp), small_digits(64), Phase(epochs=1), file=file).fit(resume=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_masked_weights_stay_zero(optimizer):
    """Momentum and decay must not bring them back."""
    module = seeded(mlp)
    masks = {name: torch.rand(p.shape) < 0.5 for name, p in module.named_parameters()}
    run(module, small_digits(), Phase(epochs=2, lr=0.05, optimizer=optimizer), masks=masks).fit()
    for name, p in module.named_parameters():
        assert not p[~masks[name]].any()
        assert p[masks[name]].all()


def test_forgetting_takes_what_a_killed_run_left(tmp_path):
    file = tmp_path / "checkpoints" / "sparsify.pt"
    checkpoint.save(file, {"settings": {}, "epoch": 1})
    unfinished = file.with_name(".sparsify.pt.x1y2")
    unfinished.mkdir()
    (unfinished / "sparsify.pt").write_bytes(b"half")
    checkpoint.forget(file)
    assert not file.parent.exists()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    module, file = seeded(mlp), tmp_path / "run.pt"
    with pytest.raises(TrainingFailed, match=r"step \d+ of epoch \d+.*smaller learning rate"):
        run(module, small_digits(), Phase(epochs=20, lr=1e6, schedule="constant"), file=file).fit()


def test_the_best_epoch_on_the_validation_split_is_kept():
    data, module = small_digits(), seeded(mlp)
    job = run(module, data, Phase(epochs=6, lr=1.5, batch_size=32, schedule="constant", best=True))
    history = job.fit()
    assert accuracy(module, data.val) == pytest.approx(max(r["accuracy"] for r in history))


def test_of_epochs_as_good_as_each_other_the_first_is_kept(monkeypatch):
    """As patience counts from that one too."""
    monkeypatch.setattr("slimnet.training.loop.accuracy", lambda *_: 0.5)
    data, first, best = small_digits(64), seeded(mlp), seeded(mlp)
    run(first, data, Phase(epochs=1, lr=0.1, schedule="constant")).fit()
    run(best, data, Phase(epochs=3, lr=0.1, schedule="constant", best=True)).fit()
    assert torch.equal(weights(first), weights(best))


def test_without_a_validation_split_the_last_epoch_is_kept():
    data = dataclasses.replace(small_digits(), val=None)
    last, best = seeded(mlp), seeded(mlp)
    run(last, data, Phase(epochs=3, lr=0.1)).fit()
    run(best, data, Phase(epochs=3, lr=0.1, best=True)).fit()
    assert torch.equal(weights(last), weights(best))


def test_patience_stops_early():
    data, module = small_digits(), seeded(mlp)
    history = run(module, data, Phase(epochs=50, lr=0.0, patience=3)).fit()
    assert len(history) == 4


def test_accumulated_batches_are_one_large_batch():
    """Without batch norm, two batches of 32 accumulated step like one of 64."""
    data = small_digits(64)
    small, large = seeded(mlp), seeded(mlp)
    run(small, data, Phase(epochs=3, lr=0.05, batch_size=32, accumulate=2, schedule="constant")).fit()
    run(large, data, Phase(epochs=3, lr=0.05, batch_size=64, schedule="constant")).fit()
    assert torch.allclose(weights(small), weights(large), atol=1e-6)


def test_distilling_follows_the_teacher():
    """With all the weight on soft outputs the labels do not matter."""
    data = small_digits()
    teacher = seeded(mlp)
    run(teacher, data, Phase(epochs=15, lr=0.1, batch_size=32)).fit()
    wrong = dataclasses.replace(data, train=Samples(data.train.x, np.zeros_like(data.train.y)))
    student = mlp()
    run(student, wrong, Phase(epochs=15, lr=0.05, batch_size=32, distill=1.0), teacher=teacher.eval()).fit()
    assert accuracy(student, data.test) > 0.8


def test_batch_norm_is_estimated_anew():
    module = nn.Sequential(nn.BatchNorm1d(3))
    batches = [(torch.randn(50, 3) * 2 + 5, None) for _ in range(8)]
    estimate_batch_norm(module, batches, 8)
    assert torch.allclose(module[0].running_mean, torch.stack([x.mean(0) for x, _ in batches]).mean(0), atol=1e-5)
    assert torch.allclose(module[0].running_var, torch.stack([x.var(0) for x, _ in batches]).mean(0), atol=1e-4)
    assert module[0].momentum == 0.1


def test_the_layout_of_pictures_changes_only_rounding():
    ends, layouts = [], []
    for channels_last in (False, True):
        seen = []
        module, data = seeded(cnn), small_digits(64)
        module[3].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        run(module, data, Phase(epochs=1, lr=0.01, batch_size=16, channels_last=channels_last)).fit()
        ends.append(weights(module))
        layouts.append(seen[0].is_contiguous(memory_format=torch.channels_last))
    assert layouts == [False, True]
    assert torch.allclose(*ends, atol=1e-5)
    assert all(p.is_contiguous() for p in module.parameters())  # what saves them expects that


def test_half_precision_learns_too():
    module, data = seeded(mlp), small_digits()
    run(module, data, Phase(epochs=15, lr=0.1, batch_size=32, precision="bf16")).fit()
    assert accuracy(module, data.test) > 0.85
    plain = mlp()
    plain.load_state_dict(module.state_dict())
    x = torch.from_numpy(data.test.__getitems__(np.arange(16))[0])
    assert torch.equal(module(x), plain.eval()(x))  # what is measured and exported is single precision again


def test_schedules():
    assert Phase(schedule="constant").factor(7) == 1
    assert [round(Phase(schedule="step:2,4").factor(e), 4) for e in range(5)] == [1, 1, 0.1, 0.1, 0.01]
    assert Phase(epochs=10).factor(0) == 1
    assert Phase(epochs=10).factor(5) == pytest.approx(0.5)
    assert Phase(epochs=10).factor(10) == pytest.approx(0, abs=1e-12)


def test_the_learning_rate_falls_from_batch_to_batch():
    """A cosine over all batches; 256 samples are four of them, and the last one of each epoch is in the record."""
    history = run(seeded(mlp), small_digits(256), Phase(epochs=2, lr=0.1, batch_size=64)).fit()
    expected = [0.05 * (1 + math.cos(math.pi * share)) for share in (3 / 8, 7 / 8)]
    assert [record["lr"] for record in history] == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"schedule": "steps"}, {"schedule": "step:2,a"}, {"optimizer": "lion"}, {"lr": -1.0}, {"lr": math.nan}),
        *({"batch_size": 0}, {"distill": 2.0}, {"precision": "int8"}, {"momentum": 1.0}, {"smoothing": -0.1}),
        *({"temperature": 0.0}, {"clip": -1.0}, {"patience": -1}),
    ],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(BadInput):
        Phase(**wrong)
