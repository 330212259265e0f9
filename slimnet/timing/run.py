"""The benchmark: a dense and a slim model, timed against each other under the same conditions."""

from collections.abc import Mapping

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Inputs, sizes
from slimnet.graph.net import Net
from slimnet.runtime.backend import Backend, Model
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.timing.conditions import Conditions, as_net
from slimnet.timing.latency import compare
from slimnet.timing.profile import profile
from slimnet.timing.result import AFTER, BEFORE, BenchResult, MacsPerLayer, pair_layers


def bench(
    dense: Model,
    slim: Model,
    inputs: Inputs = None,
    backend: Backend = DEFAULT,
    batch: int | None = None,
    seconds: float = 10.0,
    layers: bool = False,
    *,
    min_runs: int = 20,
    macs: tuple[MacsPerLayer, MacsPerLayer] | None = None,
    bounds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> BenchResult:
    """Time a dense model against a slim one.

    Both are timed as they are given: pass them through the same export and optimiser before.

    Args:
        dense: An ONNX file or model.
        slim: Another one that takes the same inputs.
        inputs: The shapes of the inputs whose size the models leave open, in any form `parse_inputs` takes.
        backend: What runs them: a runtime with its provider and threads; onnxruntime on the CPU if not given.
        batch: The size of the inputs' first axis, where the models leave it open.
        seconds: The time to spend on the comparison, and half as much again on the layers. At least `min_runs` runs of
            each model are made, and no more once the ratio is known within 1 %.
        layers: Time every layer as well.
        min_runs: The fewest runs of each model.
        macs: The multiply-accumulates of the dense and of the slim model by layer (see `layer_name`), to set the
            speedup in them beside the measured one.
        bounds: Exclusive upper bounds of integer inputs, such as the row count of the table they index; 2 if not given.
        seed: The seed of the random inputs.

    Returns:
        The result, whose `to_json` has the keys of report.json.

    Raises:
        BadInput: A model cannot be loaded or run, an input is of unknown size, or the model does not allow the batch.
    """
    nets = {BEFORE: as_net(dense, inputs, batch), AFTER: as_net(slim, inputs, batch)}
    check_alike(nets[BEFORE], nets[AFTER])
    conditions = Conditions(nets[BEFORE].inputs, dict(bounds or {}), seed, backend.describe())
    models = {name: net.model for name, net in nets.items()}
    feed = conditions.feed(models[BEFORE])
    return BenchResult(
        comparison=compare(models, feed, backend, min_runs, seconds),
        conditions=conditions,
        macs=(sum(macs[0].values()), sum(macs[1].values())) if macs else (None, None),
        layers=pair_layers(profile(models, feed, backend, min_runs, seconds / 2), macs) if layers else (),
    )


def check_alike(dense: Net, slim: Net) -> None:
    """Raises BadInput, naming both, where two networks do not take the same inputs."""
    if dense.inputs != slim.inputs:
        was, takes = (", ".join(f"{n}={sizes(s)}" for n, s in net.inputs.items()) for net in (dense, slim))
        names = [net.source or net.name for net in (dense, slim)]
        raise BadInput(f"{names[1]}: takes {takes}, but {names[0]} takes {was}; compare like with like")
