"""What each unit costs that goes, once the units that stay have made up for it as well as they can.

Of a layer y = W f with H = E[f f'] over inputs, taking features S out and fitting the others again costs

    tr(W_S (H^-1_SS)^-1 W_S'),

the optimal brain surgeon's loss (Hassibi and Stork 1993) for blocks of features (Frantar and Alistarh 2022). Units go
one after the other, the one that costs least first; after each, W and H^-1 are those of what is left. The cost is
summed over all layers that read a group, each relative to the variance of what it gives, or of the sum that this goes
into: so it compares between layers. What an early layer loses, later ones make up for in part: from the first to the
last layer the cost grows by `DEPTH` times, as the distance of the outputs did per cost (2 to 3 times on ResNet-20).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slimnet.graph.axes import Integers
from slimnet.graph.surgery import slim
from slimnet.graph.units import Trace
from slimnet.recovery.batches import in_batches, of_any_batch, takes_batches
from slimnet.recovery.recover import BATCH, WIDEST, positions
from slimnet.recovery.segments import Stepper
from slimnet.recovery.sites import Site, sites
from slimnet.runtime.backend import Backend, Feeds
from slimnet.runtime.onnxruntime import DEFAULT

Doubles = npt.NDArray[np.float64]
#: How many times as much the last layer's loss counts as the first one's.
DEPTH = 2.0
#: What is added to the diagonal of H, in parts of its mean: inputs are few.
_RIDGE = 1e-4


@dataclass
class _Reader:
    """A layer that reads units: its weight, H^-1, and the features of each unit."""

    weight: Doubles
    inverse: Doubles
    features: dict[int, Integers]

    def losses(self, units: Sequence[int]) -> Doubles:
        """What taking each of some units out costs."""
        found = np.zeros(len(units))
        by_size: dict[int, list[int]] = {}
        for k, unit in enumerate(units):
            if unit in self.features:
                by_size.setdefault(len(self.features[unit]), []).append(k)
        for places in by_size.values():
            index = np.stack([self.features[units[k]] for k in places])
            blocks = self.inverse[index[:, :, None], index[:, None, :]]
            weights = self.weight[:, index].transpose(1, 2, 0)
            found[places] = (weights * np.linalg.solve(blocks, weights)).sum(axis=(1, 2))
        return found

    def take(self, unit: int) -> None:
        """Take a unit out; what is left makes up for it."""
        index = self.features.get(unit)
        if index is None:
            return
        lines = np.linalg.solve(self.inverse[np.ix_(index, index)], self.inverse[index])
        self.weight = self.weight - self.weight[:, index] @ lines
        self.inverse = self.inverse - self.inverse[:, index] @ lines


def removal_losses(
    trace: Trace,
    inputs: Sequence[Feeds],
    backend: Backend = DEFAULT,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Doubles]:
    """What each unit costs when its group's units go one after the other, the cheapest first.

    Args:
        trace: The trace of the dense network.
        inputs: The inputs, unlabelled.
        backend: What runs the network.
        progress: Called with the fraction done.

    Returns:
        For each group that plain layers read (none too wide for a matrix of its features), by name: for each unit the
        loss that its removal adds, relative to the variance of what the layers that read it go into, float64 [units];
        units that go later have higher ones.
    """
    readers = _readers(trace, inputs, backend, progress)
    reading: dict[int, list[_Reader]] = {}
    for reader in readers:
        for number in np.unique(trace.group_of_unit[list(reader.features)]).tolist():
            reading.setdefault(number, []).append(reader)
    return {trace.groups[k].name: _in_turn(reading[k], trace.groups[k].units) for k in sorted(reading)}


def _in_turn(readers: Sequence[_Reader], units: Integers) -> Doubles:
    """The losses of the units of a group as they go one after the other."""
    whole = [replace(reader) for reader in readers]
    left, losses, highest = units.tolist(), dict[int, float](), 0.0
    while left:
        costs = np.sum([reader.losses(left) for reader in whole], axis=0)
        place = int(costs.argmin())
        unit = left.pop(place)
        # Later ones rank higher, also where rounding says otherwise.
        highest = max(float(costs[place]), highest * (1 + 1e-9) + 1e-30)
        losses[unit] = highest
        for reader in whole if left else ():
            reader.take(unit)
    return np.array([losses[unit] for unit in units.tolist()])


def _readers(
    trace: Trace, inputs: Sequence[Feeds], backend: Backend, progress: Callable[[float], None] | None
) -> list[_Reader]:
    """The layers that read units, with what the dense network gives them."""
    model = slim(trace, np.zeros(trace.n_units, bool))
    batches: Sequence[Feeds] = inputs
    if takes_batches(model, trace, inputs, backend):
        model, batches = of_any_batch(model, trace), in_batches(inputs, BATCH)
    looked = [(site, units) for site in sites(trace, np.zeros(trace.n_units, bool), model, in_turn=False)
              if (units := _units_read(trace, site)) is not None and len(units) <= WIDEST]  # fmt: skip
    stepper = Stepper(model, [{site.data, site.target} for site, _ in looked], batches, backend)
    rng = np.random.default_rng(0)
    found = []
    for k, (site, units) in enumerate(looked):
        operator = site.layer.operator
        rows, targets = [], []
        for known in stepper.advance():
            target = known[site.target]
            at = positions(site, target.shape, len(batches), rng)
            rows.append(operator.features(known[site.data], target.shape, at)[0])
            targets.append(operator.targets(target, at)[0])
        depth = DEPTH ** (k / max(1, len(looked) - 1))
        found.append(_reader(site, units, np.concatenate(rows), np.concatenate(targets), depth))
        if progress is not None:
            progress((k + 1) / len(looked))
    return found


def _reader(
    site: Site, units: Integers, rows: npt.NDArray[np.floating], targets: npt.NDArray[np.floating], depth: float
) -> _Reader:
    """A layer with the sums of its rows; its losses count so many times."""
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    variance = float(np.var(targets, axis=0, dtype=np.float64).sum())
    weight = site.effective()[0][0] * np.sqrt(depth / max(variance, 1e-300))
    features = {int(unit): np.flatnonzero(units == unit) for unit in np.unique(units[units >= 0])}
    gram = centred.T @ centred / len(centred)
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-300)
    return _Reader(weight, np.linalg.inv(gram), features)


def _units_read(trace: Trace, site: Site) -> Integers | None:
    """The unit of each feature of a layer, -1 where it is pinned; None where it reads none, or in several parts."""
    shape = site.weight.array.shape
    for axis, source in enumerate(site.weight.turns):
        units = trace.units_on(site.weight.name, source)
        if units is None or (units < 0).all():
            continue
        line = units.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        matrices = site.layer.operator.matrices(np.broadcast_to(line, shape))
        if len(matrices) == 1 and (matrices[0] == matrices[0, :1]).all():
            return np.asarray(matrices[0, 0])
    return None
