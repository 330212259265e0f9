"""Loading what a config names: the network, and the data that go with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slimnet.common.clock import Clock
from slimnet.data.load import Data, load_data
from slimnet.graph.net import Net
from slimnet.io.load import load
from slimnet.pipeline.config import ModelConfig, RunConfig


def load_network(model: ModelConfig, clock: Clock) -> Net:
    """Load a network, with its inputs at the batch size that was asked for."""
    with clock("load"):
        inputs = list(model.inputs) or None
        net = load(model.model, model.arch, inputs, model.unsafe_pickle, model.constants, model.cache)
    if model.batch is not None:
        from slimnet.timing.conditions import as_net

        net.inputs = as_net(net.model, net.inputs, model.batch).inputs
    return net


def with_data(run: RunConfig, net: Net) -> RunConfig:
    """The run with its data loaded: what was asked for, or what a checkpoint was trained on if that is built in."""
    return replace(run, data=loaded(run.data or _trained_on(net)))


def loaded(data: str | Data | None) -> Data | None:
    """The data, loaded where they are given by name."""
    return load_data(data) if isinstance(data, str) else data


def _trained_on(net: Net) -> Any:
    named = net.torch is not None and str(net.torch.notes.get("data")).partition("?")[0] == "digits"
    return net.torch.notes["data"] if named and net.torch is not None else None
