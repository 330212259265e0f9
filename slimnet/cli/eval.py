"""slimnet eval"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from slimnet.cli import options as o
from slimnet.common.errors import BadInput

if TYPE_CHECKING:
    from slimnet.graph.net import Net

#: Samples at a time where the model leaves it open.
BATCH = 64


def eval(
    model: o.Model,
    data: Annotated[str, typer.Option(help="Data to measure on, as for prune.")],
    arch: o.Arch = None,
    input_: o.Input = None,
    unsafe_pickle: o.UnsafePickle = False,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    batch: Annotated[
        int | None,
        typer.Option(min=1, help=f"Samples at a time, where the model leaves it open; {BATCH} if not given."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure the accuracy of a classifier on data, as onnxruntime computes it.

    Every sample counts once, whatever the batch; the first output holds the scores of the classes.
    """
    if split not in ("test", "val", "train"):
        raise BadInput(f"--split {split}: is not known; use test, val or train")
    with o.watched() as clock:
        net = o.load_net(model, arch, input_, unsafe_pickle, clock)
        from slimnet.data.load import load_data
        from slimnet.runtime.accuracy import correct_of
        from slimnet.runtime.backend import RunFailed

        with clock("data"):
            loaded = load_data(data)
        samples = getattr(loaded, split)
        if samples is None:
            raise BadInput(f"--data {data}: has no {split} split; choose another --split")
        samples.check(net)
        net = _batched(net, batch or (None if input_ else BATCH), asked=batch is not None)
        with clock("accuracy"):
            try:
                correct = correct_of(net.model, net, samples)
            except (RunFailed, ValueError) as error:
                (shape,) = net.inputs.values()
                advice = "try --batch 1; the first output must hold one score per class"
                raise BadInput(
                    f"{model}: does not run on batches of {shape[0]} ({getattr(error, 'reason', error)}); {advice}"
                ) from error
    _show(str(model), data, split, correct, len(samples), json)


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
            f"--batch {batch}: {net.name} is fixed to batches of {shape[0]}; leave it out, all samples count"
        )
    return net


def _show(model: str, data: str, split: str, correct: int, count: int, json: bool) -> None:
    accuracy = correct / count
    if not json:
        print(f"accuracy {100 * accuracy:.2f} % ({correct:,} of {count:,}, {split} split of {data})")
        return
    import json as encoder

    found = {"accuracy": accuracy, "correct": correct, "samples": count, "split": split, "data": data, "model": model}
    print(encoder.dumps(found, indent=2))
