"""The accuracy of a classifier on one split of its data, every sample counted once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slimnet.common.clock import Clock
from slimnet.common.errors import BadInput
from slimnet.data.load import load_data
from slimnet.data.samples import Samples
from slimnet.graph.net import Net
from slimnet.pipeline.config import ModelConfig, RunConfig
from slimnet.pipeline.load import load_network
from slimnet.runtime.accuracy import correct_of
from slimnet.runtime.backend import Backend, RunFailed

SPLITS = ("test", "val", "train")
#: The batch size, in samples, where the model leaves it open.
BATCH = 64


def evaluate_file(model: ModelConfig, run: RunConfig, split: str, clock: Clock) -> dict[str, Any]:
    """Measure the accuracy of a file.

    Args:
        model: The network; its `batch` is the number of samples at a time where the file leaves that open, `BATCH` if
            None.
        run: The `data` to measure on, and the `threads` and `provider` that run the network.
        split: The name of the split: "test", "val" or "train".
        clock: The clock that times the steps.

    Returns:
        {"accuracy", "correct", "samples", "split", "data", "model"}.

    Raises:
        BadInput: there is no such split, or the network does not run on its samples.
    """
    if split not in SPLITS:
        raise BadInput(f"`split` {split}: is not known; use test, val or train")
    backend = run.backend
    net = load_network(replace(model, batch=None), clock)
    with clock("data"):
        data = load_data(run.data) if isinstance(run.data, str) else run.data
    assert data is not None
    samples = getattr(data, split)
    if samples is None:
        raise BadInput(f"`data` {data.name}: has no {split} split; choose another `split`")
    samples.check(net)
    net = _batched(net, model.batch or (None if model.inputs else BATCH), asked=model.batch is not None)
    with clock("accuracy"):
        correct = _correct(net, samples, backend, str(model.model))
    return {"accuracy": correct / len(samples), "correct": correct, "samples": len(samples), "split": split,
            "data": data.name, "model": str(model.model)}  # fmt: skip


def _batched(net: Net, batch: int | None, asked: bool) -> Net:
    """The network with another batch size, if its graph leaves that open; refused if it does not but was asked for."""
    ((name, shape),) = net.inputs.items()
    axes = next(value.shape for value in net.model.graph.inputs if value.name == name)
    if batch is None or batch == shape[0]:
        return net
    if axes is not None and not isinstance(axes[0], int):
        return replace(net, inputs={name: (batch, *shape[1:])})
    if asked:
        raise BadInput(
            f"`batch` {batch}: {net.name} is fixed to batches of {shape[0]}; leave it out, all samples count"
        )
    return net


def _correct(net: Net, samples: Samples, backend: Backend, where: str) -> int:
    try:
        return correct_of(net.model, net, samples, backend)
    except (RunFailed, ValueError) as error:
        (shape,) = net.inputs.values()
        advice = "try `batch=1`; the first output must hold one score per class"
        why = getattr(error, "reason", error)
        raise BadInput(f"{where}: does not run on batches of {shape[0]} ({why}); {advice}") from error
