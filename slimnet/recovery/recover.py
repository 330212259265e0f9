"""Recovery in closed form: layer by layer, the weights that are kept are fitted to what the dense network computes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimnet.common.errors import BadInput
from slimnet.graph.axes import Bools
from slimnet.graph.surgery import slim
from slimnet.graph.units import Trace
from slimnet.recovery.agreement import Agreement, Tally
from slimnet.recovery.batches import in_batches, of_any_batch, takes_batches
from slimnet.recovery.fit import Rows, fit
from slimnet.recovery.operators import Positions
from slimnet.recovery.segments import Stepper
from slimnet.recovery.sites import Site, Weight, sites
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT
from slimnet.verification.observe import kept_indices

Array = npt.NDArray[np.floating]
#: Inputs that are run at once, where the network can.
BATCH = 32
#: Rows that a weight is fitted on: as many as these multiply-adds and elements allow, and no more than so many; but two
#: for each feature, unless a matrix of features alone would be larger than `WIDEST`.
GRAM_WORK, ELEMENTS, MAX_ROWS, WIDEST = 2e10, 1 << 26, 100_000, 8192
#: The part of the inputs that is held back, and how many these are at least.
HELD, LEAST_HELD = 0.1, 2


@dataclass(frozen=True)
class Recovered:
    """What recovery gave.

    Attributes:
        weights: The dense network's weights with what is kept fitted anew, by name; nothing where that did not help.
        errors: For each layer that was fitted, the squared error on inputs held back relative to the spread of what it
            is to give, before and after.
        before: How the slim network agrees with the dense one on inputs held back, as it was.
        after: How it agrees with the fitted weights; as before where they did not help.
        inputs: The number of inputs it was fitted to.
        held: The number of inputs held back.
    """

    weights: Mapping[str, Array]
    errors: Mapping[str, tuple[float, float]]
    before: Agreement
    after: Agreement
    inputs: int
    held: int


def split(inputs: Sequence[Feeds]) -> tuple[list[Feeds], list[Feeds]]:
    """The inputs to fit to, and those held back: every tenth, the last of each ten."""
    every = max(2, round(1 / HELD))
    held = [feed for k, feed in enumerate(inputs) if k % every == every - 1]
    fitted = [feed for k, feed in enumerate(inputs) if k % every != every - 1]
    while len(held) < LEAST_HELD and len(fitted) > 1:
        held.append(fitted.pop())
    return fitted, held


def recover(
    trace: Trace,
    removed: Bools,
    inputs: Sequence[Feeds],
    backend: Backend = DEFAULT,
    *,
    sweeps: int = 1,
    only: Collection[str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Recovered:
    """Fit the kept weights to what the dense network computes for some inputs.

    Layer by layer, in the order of the graph, the weights that are left are fitted by least squares to what the dense
    layer gives, from what the slim network's own layers before it give by now; a layer that goes into a sum makes up
    for what the other side has lost. What comes out is judged by the outputs on inputs held back.

    Args:
        trace: The trace of the dense network.
        removed: The removed units.
        inputs: The inputs, unlabelled; a tenth is held back.
        backend: What runs the networks.
        sweeps: How often all layers are fitted; a further sweep counts where it helps.
        only: The names of the weights that may change; None for all.
        progress: Called with the fraction done.

    Raises:
        BadInput: There is one input alone, so that none can be held back.
    """
    fitted, held = split(inputs)
    if not held:
        raise BadInput(
            "recovery needs two inputs or more, for some are held back to judge it; give more, or no `recover`"
        )
    recovery = _Recovery(trace, removed, fitted, held, backend, only)
    before = best = recovery.agreement()
    weights: Mapping[str, Array] = {}
    for sweep in range(sweeps):
        for k in recovery.sweep():
            if progress is not None:
                progress((sweep + k) / sweeps)
        now = recovery.agreement()
        if not now.distance < best.distance:
            break
        best, weights = now, recovery.weights()
    return Recovered(weights, recovery.errors, before, best, len(fitted), len(held))


class _Recovery:
    """A slim network whose weights are fitted, beside the dense one."""

    def __init__(
        self,
        trace: Trace,
        removed: Bools,
        fitted: Sequence[Feeds],
        held: Sequence[Feeds],
        backend: Backend,
        only: Collection[str] | None,
    ) -> None:
        self._trace, self._backend = trace, backend
        self._dense, self._slim = trace.net.model, slim(trace, removed)
        # What surgery has made a constant, such as a first state, may be for one sample in the slim network alone.
        if all(takes_batches(model, trace, [*fitted, *held], backend) for model in (self._dense, self._slim)):
            fitted, held = in_batches(fitted, BATCH), in_batches(held, BATCH)
            self._dense, self._slim = (of_any_batch(model, trace) for model in (self._dense, self._slim))
        self._batches, self._held = [*fitted, *held], list(held)
        self._sites = sites(trace, removed, self._slim, only)
        values = {str(value.name): value for value in trace.values}
        self._kept = {site.target: kept_indices(trace, removed, values[site.target]) for site in self._sites}
        self.errors: dict[str, tuple[float, float]] = {}
        self._changed: dict[str, Weight] = {}
        self._wanted: list[list[npt.NDArray[np.generic]]] | None = None

    def sweep(self) -> Iterator[float]:
        """Fit every layer once, in the order of the graph; gives the fraction done."""
        looked = [[name for name in (site.data, site.other) if name is not None] for site in self._sites]
        dense = Stepper(self._dense, [{site.target} for site in self._sites], self._batches, self._backend)
        small = Stepper(self._slim, looked, self._batches, self._backend)
        rng = np.random.default_rng(0)
        for k, site in enumerate(self._sites):
            both = zip(dense.advance(), small.advance(), strict=True)
            parts = [self._rows(site, wanted, got, rng) for wanted, got in both]
            first = len(parts) - len(self._held)
            self._fit(site, Rows.of(parts[:first]), Rows.of(parts[first:]))
            yield (k + 1) / len(self._sites)

    def _rows(self, site: Site, wanted: Feeds, got: Feeds, rng: np.random.Generator) -> Rows:
        """Rows of one batch, at random positions."""
        operator = site.layer.operator
        target = wanted[site.target]
        for axis, index in self._kept[site.target].items():
            target = target.take(index, axis)
        at = positions(site, target.shape, len(self._batches), rng)
        others = None if site.other is None else operator.targets(got[site.other], at)
        return Rows(operator.features(got[site.data], target.shape, at), operator.targets(target, at), others)

    def _fit(self, site: Site, rows: Rows, held: Rows) -> None:
        found = fit(rows, held, *site.effective(), free=site.is_free, saturation=site.saturation)
        self.errors[site.name] = found.before, found.after
        if found.ridge is not None and np.isfinite(found.weight).all():
            site.set_effective(found.weight, found.bias)
            self._changed |= {weight.name: weight for weight in site.weights}

    def agreement(self) -> Agreement:
        """How the slim network agrees with the dense one on the inputs held back."""
        if self._wanted is None:
            dense = self._backend.session(self._dense)
            self._wanted = [dense.run(feed) for feed in self._held]
        session = self._backend.session(self._slim)
        tally = Tally()
        for feed, wanted in zip(self._held, self._wanted, strict=True):
            tally.add(wanted, session.run(feed))
        return tally.result()

    def weights(self) -> dict[str, Array]:
        """What was fitted, as weights of the dense network."""
        dense = self._trace.net.params()
        return {name: weight.into(np.asarray(dense[name])) for name, weight in self._changed.items()}


def positions(site: Site, shape: tuple[int, ...], batches: int, rng: np.random.Generator) -> Positions:
    """The positions of an output of this shape that one of so many batches gives rows for, drawn at random."""
    places, here = site.layer.operator.places(shape), -(-_row_count(site) // batches)
    return np.arange(places) if here >= places else np.sort(rng.choice(places, here, replace=False))


def _row_count(site: Site) -> int:
    """How many rows a layer's weight is fitted on."""
    groups, outputs, features = site.layer.operator.matrices(site.weight.array).shape
    elements = ELEMENTS // max(1, groups * max(features, outputs))
    enough = min(MAX_ROWS, elements, int(GRAM_WORK / (groups * features**2)))
    return max(enough, 2 * features) if features <= WIDEST else WIDEST // 2
