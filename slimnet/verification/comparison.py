"""Comparing a network with the masked one: on all inputs, at the outputs and behind them, above rounding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from slimnet.common.errors import VerifyFailed
from slimnet.graph.evaluate import RANDOM
from slimnet.graph.units import Trace
from slimnet.runtime.backend import Backend, Feeds, RunFailed, Session
from slimnet.verification.distance import TINY, Scale, difference, magnitude
from slimnet.verification.draws import NORMAL, Draw
from slimnet.verification.observe import Arrays, Watched, watching

#: A difference may be so many times what rounding alone was seen to move the masked network by.
ROUNDING_FACTOR = 10
#: A zeroed kept unit is noticed when it shows at least this many times the tolerance.
PROOF_FACTOR = 10
#: What rounding alone moves by this part of its largest number, for one of the inputs, is decided by rounding there.
UNSETTLED = 0.1
#: So many times weights and inputs are moved within their precision, to see what rounding does.
JITTERS = 2


@dataclass(frozen=True)
class Difference:
    """How far two networks are apart.

    Attributes:
        absolute: The largest difference of two elements.
        relative: The largest difference relative to its slice and, where it was measured, to the floor of rounding.
        where: The name of the output or inner value that differs most.
        what: The inputs for which it does.
    """

    absolute: float
    relative: float
    where: str = ""
    what: str = ""


class Comparison:
    """The masked network, run on all inputs, and what differences from it are relative to.

    Attributes:
        draws: The inputs that the masked network runs on.
        tolerance: The largest relative difference that is accepted.
    """

    def __init__(
        self,
        trace: Trace,
        masked: ir.Model,
        watch: Watched,
        inputs: Iterable[Draw],
        tolerance: float,
        backend: Backend,
    ) -> None:
        """Run the masked network.

        Raises:
            VerifyFailed: The masked network does not run, or gives no finite number on any of the inputs.
        """
        self._trace, self._masked, self._backend = trace, masked, backend
        self.watch, self.tolerance = watch, tolerance
        self.draws: list[Draw] = []
        self.expected: list[Arrays] = []
        self._run(inputs)
        if not any(map(_tells, self.expected)):
            raise VerifyFailed(
                f"{trace.net.name}: every output is NaN or infinite, so nothing can be compared; "
                "give real inputs (`data`)"
            )
        self.names = [str(value.name) for value in masked.graph.outputs]
        # A sequence is one output of many arrays.
        self.names += ["a sequence"] * (len(self.expected[0]) - len(self.names) - len(watch.masked))
        self.names += watch.masked
        self._numbers: dict[str, list[int]] = defaultdict(list)
        for k, name in enumerate(self.names):
            self._numbers[name].append(k)
        self.scales = [Scale(arrays) for arrays in zip(*self.expected, strict=True)]
        #: The floor of rounding, where it was measured.
        self.rounding: float | None = None
        #: The inputs and the values that rounding decides for them, by their numbers: they are not compared.
        self._unsettled: set[tuple[int, int]] = set()

    def _run(self, inputs: Iterable[Draw]) -> None:
        """Run the inputs; of those that may be left out, the ones that show nothing are."""
        session = watching(self._masked, self.watch.masked, self._backend)
        satisfied: set[str] = set()
        for draw in inputs:
            if draw.instead in satisfied:
                continue
            try:
                found = self.watch.of_masked(session.run(draw.feed))
            except RunFailed as failure:
                if draw.optional:
                    continue
                raise VerifyFailed(f"the masked network does not run: {failure.reason}") from failure
            if draw.optional and not _tells(found):
                continue
            self.draws.append(draw)
            self.expected.append(found)
            satisfied.update({draw.instead} - {""})

    @property
    def feeds(self) -> list[Feeds]:
        """The inputs alone."""
        return [draw.feed for draw in self.draws]

    @property
    def usual_draws(self) -> list[Draw]:
        """The inputs of the sizes of the trace, those that tell most first."""
        usual = self._trace.net.inputs
        alike = [k for k, draw in enumerate(self.draws) if all(draw.feed[n].shape == usual[n] for n in draw.feed)]
        return [self.draws[k] for k in dict.fromkeys([*self.telling, *alike])]

    @property
    def title(self) -> str:
        """How messages name the network."""
        return self._trace.net.name

    @property
    def random_nodes(self) -> list[str]:
        """The nodes that draw random numbers."""
        return [f"{node.op_type} {node.name}".strip() for node in self._masked.graph if _is_random(node)]

    @property
    def finite(self) -> list[str]:
        """The names of the outputs and inner values that hold finite numbers only in the masked network."""
        of_name = zip(self.names, zip(*self.expected, strict=True), strict=True)
        return [name for name, found in of_name if all(x.dtype.kind != "f" or np.isfinite(x).all() for x in found)]

    @property
    def unsettled(self) -> list[str]:
        """The names of the outputs and inner values that rounding decides for some of the inputs."""
        return list(dict.fromkeys(self.names[k] for _, k in sorted(self._unsettled, key=lambda at: at[1])))

    @property
    def telling(self) -> list[int]:
        """The numbers of inputs that give finite numbers: the first, the first normal ones, and those of branches."""
        finite = [k for k, found in enumerate(self.expected) if _tells(found)]
        normal = [k for k in finite if self.draws[k].what == NORMAL]
        branches = [k for k in finite if self.draws[k].branch]
        return list(dict.fromkeys([finite[0], *normal[:1], *branches]))

    def outputs_of(
        self, model: ir.Model, what: str, watched: bool = True, file: Path | None = None, optimise: bool = True
    ) -> list[Arrays]:
        """What another network computes for the inputs.

        Args:
            model: The network.
            what: What a message calls it.
            watched: Whether it has the watched values, under the names of the slim network.
            file: The file that the network was read from; it is run as it is where nothing but outputs is compared.
            optimise: Whether the runtime may optimise the network.

        Raises:
            VerifyFailed: It does not run.
        """
        names = self.watch.slim if watched else ()
        session = self._backend.session(file) if file and not names else watching(model, names, self._backend, optimise)
        found = []
        for draw in self.draws:
            try:
                found.append(session.run(draw.feed))
            except RunFailed as failure:
                at = f" on inputs {draw.what}" if draw.optional else ""
                raise VerifyFailed(f"{what} does not run{at}: {failure.reason}") from failure
        return found

    def difference(self, actual: Sequence[Arrays], places: Collection[str] | None = None) -> Difference:
        """How far outputs are apart from the masked network's, above the floor of rounding where that was measured."""
        worst = Difference(0.0, 0.0)
        absolute = 0.0
        for on, (draw, got) in enumerate(zip(self.draws, actual, strict=True)):
            apart = self._of_one(on, got, places)
            absolute = max(absolute, apart.absolute)
            if apart.relative > worst.relative:
                worst = Difference(apart.absolute, apart.relative, apart.where, draw.what)
        return Difference(absolute, worst.relative, worst.where, worst.what)

    def judged(
        self, slim: ir.Model, actual: Sequence[Arrays], places: Collection[str] | None = None
    ) -> tuple[Difference, Difference]:
        """How far the slim network is apart from the masked one; rounding is measured where that is in question.

        Rounding decides where large numbers nearly tie, as in the softmax of an input that is far from what the network
        was made for, and it decides otherwise in another order. So a difference counts where the slim network shows it
        without the runtime's optimisations as well.

        Args:
            slim: The slim network.
            actual: What it has computed for the inputs.
            places: The outputs and inner values that are looked at; None takes all.

        Returns:
            The difference as it was measured, and what is left of it beyond rounding.
        """
        measured = apart = self.difference(actual, places)
        if apart.relative > self.tolerance:
            self.learn_rounding()
            apart = self.difference(actual, places)
        if apart.relative > self.tolerance:
            plain = self.outputs_of(slim, "the slim network", optimise=False)
            pairs = enumerate(zip(actual, plain, strict=True))
            closer = [min(both, key=lambda got: self._of_one(on, got, places).relative) for on, both in pairs]
            apart = self.difference(closer, places)
            if apart.relative <= self.tolerance:
                self.rounding = max(self.rounding or 0.0, measured.relative)
        return measured, apart

    def notices(self, found: Arrays, on: int, places: Collection[str] | None = None) -> bool:
        """Whether outputs, or those at these places, differ by so much that a zeroed kept unit counts as noticed."""
        return self._of_one(on, found, places).relative > PROOF_FACTOR * self.tolerance

    def inner(self, on: int) -> Feeds:
        """The watched values of the masked network on one of the inputs, by their names in the slim network."""
        slim = self.watch.slim
        return dict(zip(slim, self.expected[on][-len(slim) :], strict=True)) if slim else {}

    def _of_one(self, on: int, got: Arrays, places: Collection[str] | None = None) -> Difference:
        want = self.expected[on]
        if len(want) != len(got):
            return Difference(np.inf, np.inf, "the number of outputs")
        allowance = ROUNDING_FACTOR / self.tolerance if self.rounding is not None else 0.0
        absolute, relative, where = 0.0, 0.0, ""
        for k in range(len(want)) if places is None else (k for name in places for k in self._numbers.get(name, ())):
            if (on, k) in self._unsettled:
                continue
            if want[k].dtype != got[k].dtype:
                return Difference(np.inf, np.inf, f"{self.names[k]} ({got[k].dtype} instead of {want[k].dtype})")
            apart = difference(want[k], got[k])
            absolute = max(absolute, np.inf if apart is None else float(apart.max(initial=0)))
            share = self.scales[k].relative(want[k], got[k], allowance)
            if share > relative:
                relative, where = share, self.names[k]
        return Difference(absolute, relative, where)

    def learn_rounding(self) -> float:
        """Measure how far rounding alone moves the masked network, once; differences are relative to that as well.

        The network is computed in other orders: without the runtime's optimisations, and with weights and inputs moved
        within the precision they are stored with.

        Returns:
            The floor: the part of its slice by which rounding moves the slice that it moves most.
        """
        if self.rounding is None:
            names = list(self._trace.param_sizes)
            for seed in (None, *range(JITTERS)):
                model = self._masked if seed is None else jittered(self._masked, names, seed)
                session = watching(model, self.watch.masked, self._backend, optimise=seed is not None)
                self._add_noise(session, seed)
            self.rounding = max((scale.noise for scale in self.scales), default=0.0)
            if len(self._unsettled) == len(self.draws) * len(self.scales):
                self._unsettled.clear()  # then nothing would be compared
        return self.rounding

    def _add_noise(self, session: Session, seed: int | None) -> None:
        for on, (draw, wanted) in enumerate(zip(self.draws, self.expected, strict=True)):
            try:
                feed = draw.feed if seed is None else _moved_all(draw.feed, seed)
                found = self.watch.of_masked(session.run(feed))
            except RunFailed:
                continue  # an input moved out of its range, such as 1 for Acos
            for k, (scale, want, got) in enumerate(zip(self.scales, wanted, found, strict=True)):
                noise = difference(want, got)
                scale.add_noise(want, noise)
                if not scale.discrete and _decides(noise, want):
                    self._unsettled.add((on, k))


def _tells(found: Arrays) -> bool:
    """Whether there is any finite number among outputs."""
    return any(x.dtype.kind in "OSU" or np.isfinite(x.astype(np.float64)).any() for x in found)


def _decides(noise: npt.NDArray[Any] | None, want: npt.NDArray[Any]) -> bool:
    """Whether rounding has moved a value by so much, or given it another shape, that it says nothing."""
    return noise is None or float(noise.max(initial=0)) > max(TINY, UNSETTLED * float(magnitude(want).max(initial=0)))


def _is_random(node: ir.Node) -> bool:
    """Whether a node computes something else every time."""
    if node.op_type == "Dropout" and len(node.inputs) > 2 and (training := node.inputs[2]) is not None:
        return training.const_value is None or bool(training.const_value.numpy())
    return node.op_type in RANDOM


def jittered(model: ir.Model, names: Iterable[str], seed: int) -> ir.Model:
    """A copy of a network in which these weights are moved within their precision."""
    copy = model.clone()
    rng = np.random.default_rng(seed)
    for name in names:
        value = copy.graph.initializers.get(name)
        tensor = None if value is None else value.const_value
        if value is not None and tensor is not None and tensor.dtype.is_floating_point():
            value.const_value = ir.Tensor(_moved(tensor.numpy(), rng), dtype=tensor.dtype, name=name)
    return copy


def _moved_all(feed: Feeds, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    return {name: array if array.dtype.kind in "biu" else _moved(array, rng) for name, array in feed.items()}


def _moved(array: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Each element times a number that differs from 1 by up to one unit in its last place.

    What is of another type than numpy's own, such as bfloat16, is only stored so, and computed with as it is.
    """
    if array.dtype.kind != "f":
        return array
    wide = array.astype(np.float64)
    return (wide * (1 + (2 * rng.random(array.shape) - 1) * float(np.finfo(array.dtype).eps))).astype(array.dtype)
