"""Latencies of networks against each other, measured so that a noisy machine disturbs all of them alike."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.runtime.backend import Backend, Feeds, Model, RunFailed, Session
from slimnet.runtime.onnxruntime import DEFAULT

_TOO_FAST_S = 50e-6
_SAMPLE_S = 500e-6
_WARM_UP_S = 0.05
_WARM_UP_RUNS = 3
_MAX_ROUNDS = 2000
_NOISY = 0.05
_BLOCKS = 20
_RESAMPLES = 1000


@dataclass(frozen=True)
class Timing:
    """Milliseconds per run: median and 90th percentile over `runs` timed runs."""

    median: float
    p90: float
    runs: int


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` measured.

    `samples` has one row per round and one column per model, in the order of `names`: seconds per run, the mean of
    `loops[name]` runs in a row. `notes` are remarks for the user, one line each.
    """

    names: tuple[str, ...]
    samples: np.ndarray
    loops: Mapping[str, int]
    notes: tuple[str, ...]

    def seconds(self, name: str) -> np.ndarray:
        """The samples of one model: [rounds]."""
        return self.samples[:, self.names.index(name)]

    def timing(self, name: str) -> Timing:
        column = self.seconds(name) * 1e3
        median, p90 = np.quantile(column, [0.5, 0.9])
        return Timing(float(median), float(p90), len(column) * self.loops[name])

    def ratio(self, name: str, to: str) -> Interval:
        """Median time of `name` over that of `to`; above 1, `name` is the slower one."""
        pair = np.column_stack([self.seconds(name), self.seconds(to)])
        medians = np.median(pair, axis=0)
        low, high = _percentiles(_bootstrap_ratios(pair))
        return Interval(float(medians[0] / medians[1]), float(low), float(high))


def compare(
    models: Mapping[str, Model],
    inputs: Feeds,
    backend: Backend = DEFAULT,
    min_runs: int = 20,
    max_seconds: float = 10.0,
    tight: float = 0.01,
) -> Comparison:
    """Time `models` on the same `inputs`, interleaved run by run, every second round in reverse order.

    Measures at least `min_runs` rounds, then goes on until every ratio of medians to the first model is known within
    the fraction `tight`, or they have run for `max_seconds`. Models faster than 50 us are run in loops, which a note
    says. Raises BadInput when a model cannot be loaded or run on `inputs`.
    """
    runners = {name: Runner(name, backend.session(model), inputs) for name, model in models.items()}
    notes = [note for runner in runners.values() if (note := runner.warm_up())]
    threads, cores = backend.threads, backend.describe().cores
    if threads is not None and threads > cores:
        notes.insert(0, f"{threads} threads share {cores} cores: fewer threads are likely faster")
    samples = _rounds(list(runners.values()), min_runs, max_seconds, tight)
    spread = _spread(samples)
    if spread > _NOISY:
        notes.append(f"measured only within {spread:.0%}: the machine is busy; free it, or give more time")
    return Comparison(tuple(runners), samples, {n: r.loops for n, r in runners.items()}, tuple(notes))


class Runner:
    """One model with its inputs bound, and the time it has run for."""

    def __init__(self, name: str, session: Session, inputs: Feeds) -> None:
        self.name = name
        self.loops = 1
        self.spent = 0.0
        for needed in session.inputs:
            if needed not in inputs:
                raise BadInput(f"{name}: its input {needed} is not among the given ones: {', '.join(inputs)}")
        with self._named():
            self._timed = session.bind(inputs)

    def warm_up(self) -> str | None:
        """Run until the caches are warm and choose `loops`; the note to make when that is more than one."""
        times: list[float] = []
        while len(times) < _WARM_UP_RUNS or sum(times) < _WARM_UP_S:
            times.append(self.sample())
        typical = float(np.median(times))
        if typical >= _TOO_FAST_S:
            return None
        self.loops = math.ceil(_SAMPLE_S / typical)
        return f"{self.name} runs in {typical * 1e6:.0f} us, too fast to time: measured in loops of {self.loops} runs"

    def sample(self) -> float:
        """Seconds per run, the mean over one loop."""
        with self._named():
            seconds = self._timed(self.loops)
        self.spent += seconds
        return seconds / self.loops

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of a failure which model it is."""
        try:
            yield
        except RunFailed as failure:
            raise BadInput(f"{self.name}: {failure}") from failure


def _rounds(runners: list[Runner], min_runs: int, max_seconds: float, tight: float) -> np.ndarray:
    """Seconds per run [rounds, models]."""
    rows: list[list[float]] = []
    deadline = max_seconds + sum(runner.spent for runner in runners)
    check = min_runs
    while len(rows) < max(min_runs, _MAX_ROUNDS):
        step = -1 if len(rows) % 2 else 1
        rows.append([runner.sample() for runner in runners[::step]][::step])
        if len(rows) >= min_runs and sum(runner.spent for runner in runners) > deadline:
            break
        if len(rows) == check:
            if _spread(np.array(rows)) <= tight:
                break
            check = math.ceil(check * 1.5)
    return np.array(rows)


def _spread(samples: np.ndarray) -> float:
    """Half the relative width of the widest interval: of the ratios to the first model, or of a lone model's median."""
    against = samples[:, :1] if samples.shape[1] > 1 else np.ones_like(samples)
    others = samples[:, 1:] if samples.shape[1] > 1 else samples
    widths = []
    for other in others.T:
        low, high = _percentiles(_bootstrap_ratios(np.column_stack([other, against[:, 0]])))
        widths.append((high - low) / (high + low))
    return max(widths)


def _bootstrap_ratios(pair: np.ndarray) -> np.ndarray:
    """Resampled ratios of the medians of two columns, by the circular block bootstrap (Politis and Romano, 1992).

    Both columns are resampled in the same blocks of consecutive rounds, because disturbances last longer than a run and
    affect both models.
    """
    rounds = len(pair)
    length = math.ceil(rounds / _BLOCKS)
    starts = np.random.default_rng(0).integers(0, rounds, (_RESAMPLES, math.ceil(rounds / length), 1))
    picked = ((starts + np.arange(length)) % rounds).reshape(_RESAMPLES, -1)
    return np.median(pair[picked, 0], axis=1) / np.median(pair[picked, 1], axis=1)


def _percentiles(ratios: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
