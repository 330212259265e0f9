"""Recovery in closed form: layer by layer, the weights that are kept are fitted to what the dense network computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Bools
from slimnet.graph.surgery import slim
from slimnet.graph.units import Trace
from slimnet.recovery.batches import in_batches, of_any_batch, takes_batches
from slimnet.recovery.fit import Sums, fit
from slimnet.recovery.segments import Stepper
from slimnet.recovery.sites import Kept, Site, sites
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.observe import kept_indices

Array = npt.NDArray[np.generic]
#: Rows that a weight is fitted on: so many for each feature, within these bounds.
ROWS_PER_FEATURE, MIN_ROWS, MAX_ROWS = 8, 4096, 20_000
#: Inputs that are run at once, where the network can.
BATCH = 32
#: Sweeps over all layers.
SWEEPS = 2


@dataclass
class Recovered:
    """What recovery gave.

    Attributes:
        weights: The dense network's weights with what is kept fitted anew, by name.
        fits: For each layer that was fitted the squared error on rows held back, relative to the spread of what it is
            to give, before and after.
        distance: The distance of the outputs from the dense network's on inputs held back: before, and after each sweep.
    """

    weights: Mapping[str, Array]
    fits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    distance: Sequence[float] = ()


def recover(
    trace: Trace,
    removed: Bools,
    inputs: Sequence[Feeds],
    held: Sequence[Feeds],
    backend: Backend = DEFAULT,
    sweeps: int = SWEEPS,
    progress: Callable[[float], None] | None = None,
) -> Recovered:
    """Fit the kept weights to what the dense network computes for some inputs.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        inputs: Batches of inputs to fit to.
        held: Batches held back, on which every step is judged.
        backend: What runs the networks.
        sweeps: How often all layers are fitted.
        progress: Called with the fraction done.
    """
    recovery = _Recovery(trace, removed, inputs, held, backend)
    for sweep in range(sweeps):
        for k in recovery.sweep():
            if progress is not None:
                progress((sweep + k) / sweeps)
    return recovery.result()


class _Recovery:
    def __init__(
        self, trace: Trace, removed: Bools, inputs: Sequence[Feeds], held: Sequence[Feeds], backend: Backend
    ) -> None:
        self._trace, self._removed, self._backend = trace, removed, backend
        batched = takes_batches(trace, inputs, backend)
        if batched:
            inputs, held = in_batches(inputs, BATCH), in_batches(held, BATCH)
        self._batches = [*inputs, *held]
        self._fitted_on = len(inputs)
        self._dense, self._model = trace.net.model, slim(trace, removed)
        if batched:
            self._dense, self._model = (of_any_batch(m, trace) for m in (self._dense, self._model))
        self._sites = sites(trace, removed, self._model)
        values = {str(value.name): value for value in trace.values}
        self._kept = {s.target: kept_indices(trace, removed, values[s.target]) for s in self._sites}
        self._outputs = [str(value.name) for value in self._model.graph.outputs]
        self._fits: dict[str, tuple[float, float]] = {}
        self._distance: list[float] = []

    def sweep(self):
        """Fit every layer once, in the order of the graph; gives the fraction done."""
        there = [{s.target} for s in self._sites]
        here = [{name for name in (s.data, s.other) if name is not None} for s in self._sites]
        dense = Stepper(self._dense, [*there, self._outputs], self._batches, self._backend)
        small = Stepper(self._model, [*here, self._outputs], self._batches, self._backend)
        rng = np.random.default_rng(0)
        for k, site in enumerate(self._sites):
            sums = held = None
            for number, (wanted, got) in enumerate(zip(dense.advance(), small.advance(), strict=True)):
                target = _part(wanted[site.target], self._kept[site.target])
                if site.other is not None:
                    target = target - got[site.other]
                at = self._positions(site, target.shape, got[site.data], rng)
                rows = site.layer.operator.features(got[site.data], target.shape, at)
                goals = site.layer.operator.targets(target, at)
                if sums is None or held is None:
                    size = rows.shape[0], rows.shape[2], goals.shape[2]
                    sums, held = Sums(*size), Sums(*size)
                (sums if number < self._fitted_on else held).add(rows, goals)
            assert sums is not None
            assert held is not None
            self._fit(site, sums, held)
            yield (k + 1) / len(self._sites)
        pairs = zip(dense.advance(), small.advance(), strict=True)
        apart = spread = 0.0
        for number, (wanted, got) in enumerate(pairs):
            if number >= self._fitted_on:
                for name in self._outputs:
                    apart += float(np.square(wanted[name] - got[name], dtype=np.float64).sum())
                    spread += float(np.square(wanted[name], dtype=np.float64).sum())
        self._distance.append(float(np.sqrt(apart / max(spread, 1e-300))))

    def _positions(
        self, site: Site, shape: tuple[int, ...], data: Array, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        places = site.layer.operator.places(shape)
        features = site.layer.operator.matrices(site.weight.array).shape[2]
        rows = min(MAX_ROWS, max(MIN_ROWS, ROWS_PER_FEATURE * features))
        here = -(-rows // self._fitted_on)
        return np.arange(places) if here >= places else np.sort(rng.choice(places, here, replace=False))

    def _fit(self, site: Site, sums: Sums, held: Sums) -> None:
        operator = site.layer.operator
        weight = operator.matrices(site.weight.array).astype(np.float64)
        shape = weight.shape[:2]
        bias = np.zeros(shape) if site.bias is None else site.bias.array.astype(np.float64).reshape(shape)
        norm = site.norm
        factor = np.ones(shape) if norm is None else norm.factor.reshape(shape)
        offset = np.zeros(shape) if norm is None else (norm.bias.array - norm.factor * norm.mean).reshape(shape)
        found = fit(sums, held, weight * factor[..., None], factor * bias + offset,
                    free=site.bias is not None or norm is not None)  # fmt: skip
        self._fits[site.name] = found.before, found.after
        if not np.isfinite(found.ridge):
            return
        steady = np.abs(factor) > 1e-3 * np.abs(factor).max()
        new = np.where(steady[..., None], found.weight / np.where(steady, factor, 1)[..., None], weight)
        site.weight.set(operator.weight(new, site.weight.array.shape))
        if norm is not None:
            norm.bias.set((found.bias - factor * bias + (norm.factor * norm.mean).reshape(shape)).reshape(-1))
        elif site.bias is not None:
            site.bias.set(found.bias.reshape(-1))

    def result(self) -> Recovered:
        """What was fitted, as weights of the dense network."""
        dense = self._trace.net.params()
        changed = [w for s in self._sites for w in (s.weight, s.bias, s.norm and s.norm.bias) if w is not None]
        weights = {w.name: w.into(np.asarray(dense[w.name])) for w in changed}
        return Recovered(weights, self._fits, self._distance)


def _part(array: Array, kept: Kept) -> Array:
    for axis, index in kept.items():
        array = array.take(index, axis)
    return array
