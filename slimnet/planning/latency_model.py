"""Predict the latency of a network from its widths, layer by layer.

The runtime works on whole blocks of channels, so the time of a layer is a step function of its widths: a part that
grows with the product of its blocks (arithmetic), one that grows with the blocks of each side (memory), and a constant.
The factors of every layer are fitted, none below zero, to the measured times of a few slimmer variants of the network:
by Lawson and Hanson's non-negative least squares, reweighted towards least absolute errors, so that a variant which
something else on the machine disturbed does not count for much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from slimnet.graph.layers import is_layer, layer_name
from slimnet.graph.units import Trace
from slimnet.planning.cost import Builder, Cost
from slimnet.planning.widths import Counts, Floats

#: The number of units kept of each group, and milliseconds by layer: what `timing.profile` calls `Profile.layers`.
Sample: TypeAlias = tuple[Counts, Mapping[str, float]]
#: A sum of products of axes, given by their numbers and a factor; its coefficient is fitted.
_Feature: TypeAlias = dict[tuple[int, ...], float]

#: Errors are relative, but those of times below this fraction of the layer's longest count no more than that.
_SMALL = 0.1
#: Reweightings, and the relative error below which a sample keeps its full weight.
_REWEIGHTINGS = 5
_UNDISTURBED = 0.02


@dataclass(frozen=True)
class ModelError:
    """How far predictions are from measurements on widths that were not fitted, relative to the measured time.

    Attributes:
        total: The relative error of the time of the whole network, the mean over those widths.
        layers: The relative error of the time of a layer, the mean over layers and widths, weighted by time.
    """

    total: float
    layers: float


@dataclass(frozen=True)
class LatencyModel:
    """Milliseconds as a function of the widths.

    Attributes:
        cost: The predicted time by layer, in ms, as a function of the widths.
        error: The error of such predictions; None where no samples were held out.
        dense: The measured time of the first sample, the dense network, in ms by layer.
    """

    cost: Cost
    error: ModelError | None
    dense: Mapping[str, float]


def fit(trace: Trace, samples: Sequence[Sample], held_out: int = 0) -> LatencyModel:
    """Fit the model to measured variants of a network.

    Args:
        trace: The trace of the dense network.
        samples: The measured variants, the dense network first, with their times by layer; nodes that are part of no
            layer are summed by op, "(Softmax)".
        held_out: The number of samples, the last ones, that test the model: the error is that of a model fitted without
            them. The result is fitted to all.
    """
    features = _Features(trace)
    names = dict.fromkeys(name for _, times in samples for name in times)
    by_layer = {name: features.of(name) for name in names}
    error = None
    if held_out:
        rest = _fitted(features, by_layer, samples[:-held_out])
        error = _error(rest, samples[-held_out:])
    return LatencyModel(_fitted(features, by_layer, samples), error, samples[0][1])


def _error(cost: Cost, samples: Sequence[Sample]) -> ModelError:
    totals, apart, time = [], 0.0, 0.0
    for kept, times in samples:
        measured = sum(times.values())
        totals.append(abs(cost.total(kept) / measured - 1))
        predicted = cost.by_layer(kept)
        apart += sum(abs(predicted.get(name, 0.0) - ms) for name, ms in times.items())
        time += measured
    return ModelError(float(np.mean(totals)), apart / time)


# -- features --------------------------------------------------------------------------------------------------------


class _Features:
    """The sums of products that the time of each layer may depend on."""

    def __init__(self, trace: Trace) -> None:
        self.built = Builder(trace)
        self._layers: dict[str, list[tuple[tuple[int, ...], float]]] = {}
        for node, count in trace.multiply_adds:
            rows, factor = self.built.product(count.axes, step=True)
            self._layers.setdefault(layer_name(node), []).append((rows, factor * count.factor))
        self._volumes: dict[str, _Feature] = {}
        for node in trace.net.model.graph:
            kind = "" if is_layer(node.op_type) else f"({node.op_type})"
            for rows, factor in self._made(trace, node):
                volume = self._volumes.setdefault(kind, {})
                volume[rows] = volume.get(rows, 0.0) + factor

    def _made(self, trace: Trace, node: ir.Node) -> list[tuple[tuple[int, ...], float]]:
        """The number of elements of a node's first output, as a product of axes."""
        axes = trace.units_in(node.outputs[0])
        if axes is None or trace.is_constant(node.outputs[0]):
            return []
        return [self.built.product(axes, step=False)]

    def of(self, name: str) -> list[_Feature]:
        """Arithmetic, memory of each side and a constant of a layer; elements and a constant of anything else."""
        constant: _Feature = {(): 1.0}
        if name not in self._layers:
            # What the runtime puts in itself, such as changes of layout, goes by what the layers put out.
            volume = self._volumes.get(name) or self._volumes.get("", {})
            return [volume, constant] if volume else [constant]
        product: _Feature = {}
        for rows, factor in self._layers[name]:
            product[rows] = product.get(rows, 0.0) + factor
        sides = sorted({row for rows in product for row in rows})
        memory: list[_Feature] = [{(row,): 1.0} for row in sides]
        features = [product, *memory, constant]
        return [f for k, f in enumerate(features) if all(f.keys() != other.keys() for other in features[:k])]


# -- fitting ---------------------------------------------------------------------------------------------------------


def _fitted(features: _Features, by_layer: Mapping[str, Sequence[_Feature]], samples: Sequence[Sample]) -> Cost:
    """The sum of all features with the coefficients that fit the samples best."""
    built = replace(features.built, terms={}, names={})
    for name, candidates in by_layer.items():
        times = np.array([measured.get(name, 0.0) for _, measured in samples])
        sizes = np.column_stack([_values(features.built, feature, samples) for feature in candidates])
        for feature, coefficient in zip(candidates, _coefficients(sizes, times), strict=True):
            for rows, factor in feature.items():
                built.add(name, rows, factor * coefficient)
    return built.done()


def _values(axes: Builder, feature: _Feature, samples: Sequence[Sample]) -> Floats:
    """A feature at each sample."""
    built = replace(axes, terms={}, names={})
    for rows, factor in feature.items():
        built.add("", rows, factor)
    cost = built.done()
    return np.array([cost.total(kept) for kept, _ in samples])


def _coefficients(sizes: Floats, times: Floats) -> Floats:
    """Non-negative factors of small relative errors: [samples, features] and [samples] -> [features]."""
    from scipy.optimize import nnls  # only a latency target needs it, and it takes time to import

    longest = times.max(initial=0.0)
    if longest == 0:
        return np.zeros(sizes.shape[1])
    weight = 1 / np.maximum(times, _SMALL * longest)
    scale = sizes.max(axis=0)
    rows, wanted = sizes / scale * weight[:, None], times * weight
    trust = np.ones(len(times))
    for _ in range(_REWEIGHTINGS):
        found, _ = nnls(rows * trust[:, None], wanted * trust)
        trust = np.sqrt(_UNDISTURBED / np.maximum(np.abs(rows @ found - wanted), _UNDISTURBED))
    return found / scale
