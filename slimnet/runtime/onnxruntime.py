"""onnxruntime as a backend: the only module that imports it, and the only one that knows its private parts."""

from __future__ import annotations

import ctypes
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file
from slimnet.runtime.backend import Feeds, Model, NodeRuns, RunFailed, RuntimeInfo, Timed, title
from slimnet.runtime.machine import cores, cpu

#: What onnxruntime raises; it exports none of its own errors.
ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
)
_LOAD_ERRORS: tuple[type[Exception], ...] = (*ERRORS, OSError)

NAME = "onnxruntime"
VERSION: str = ort.__version__
_CPU = "CPUExecutionProvider"
#: Tensors whose elements have as many bytes as numpy gives them, but a type that onnxruntime's numpy arrays lack.
_FOREIGN = {f"tensor({t.name.lower()})": t.numpy() for t in ir.DataType if t.name.startswith(("BFLOAT", "FLOAT8"))}
_INLINE_BYTES = 1024
#: From so many inputs on they are handed over as onnxruntime's own: it looks for each of the others among all of them.
_MANY_INPUTS = 100
#: More threads than these make a session that takes minutes to do nothing.
THREADS_PER_CORE = 64


@dataclass(frozen=True)
class OnnxRuntime:
    """onnxruntime, with one of its execution providers.

    Attributes:
        provider: An execution provider by its name or a short one such as "cuda"; what it has no kernel for runs on the
            CPU.
        threads: The size of the thread pool; None leaves it to onnxruntime, which takes every core.

    Raises:
        BadInput: The provider is not installed, or less than one thread is asked for, or far more than there are cores.
    """

    provider: str = _CPU
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "provider", _provider(self.provider))
        if self.threads is not None and self.threads < 1:
            raise BadInput(f"`threads` {self.threads}: give at least 1, or leave it out to use every core")
        if self.threads is not None and self.threads > THREADS_PER_CORE * cores():
            most = THREADS_PER_CORE * cores()
            raise BadInput(f"`threads` {self.threads}: is too many for {cores()} cores; give at most {most}")

    def with_threads(self, threads: int | None) -> OnnxRuntime:
        """The same provider with another size of the thread pool."""
        return replace(self, threads=threads)

    def describe(self) -> RuntimeInfo:
        """What every result that was measured with it says about it."""
        return RuntimeInfo(NAME, VERSION, self.provider, self.threads, cpu(), cores())

    def session(self, model: Model, optimise: bool = True) -> OnnxSession:
        """Load a network, which is left as it is; `optimise` switches all graph optimisations on or off.

        The weights of an `ir.Model` are handed over without being serialised, so models above protobuf's 2 GB work too.
        Raises BadInput, naming the file, when onnxruntime cannot load the model.
        """
        return OnnxSession(*self._loaded(model, self._options(optimise)))

    def probe(self, model: ir.Model, folder: Path) -> OnnxProbe:
        """Load a network to time its nodes one by one, by onnxruntime's profiler."""
        options, optimised = self._options(True), folder / "optimised.onnx"
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        write_optimised(options, optimised)
        raw, weights = self._loaded(model, options)
        return OnnxProbe(raw, weights, ir.load(optimised).graph)

    def _options(self, optimise: bool) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self.threads or 0
        options.inter_op_num_threads = 1
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        # Idle workers of one session spin for milliseconds and would take the cores from the session timed next.
        _configure(options, "force_spinning_stop", "1")
        return options

    def _loaded(self, model: Model, options: ort.SessionOptions) -> tuple[ort.InferenceSession, list[npt.NDArray[Any]]]:
        """onnxruntime's own session, and the arrays that its weights lie in."""
        providers = list(dict.fromkeys([self.provider, _CPU]))
        try:
            if isinstance(model, ir.Model):
                serialised, weights = _handed_over(model, options)
                return ort.InferenceSession(serialised, options, providers=providers), weights
            return ort.InferenceSession(str(existing_file(model)), options, providers=providers), []
        except _LOAD_ERRORS as error:
            raise BadInput(f"{title(model)}: onnxruntime cannot load it: {reason(error)}") from error


class OnnxSession:
    """A network in onnxruntime; it keeps alive the arrays that its weights lie in."""

    def __init__(self, raw: ort.InferenceSession, weights: list[npt.NDArray[Any]]) -> None:
        self._raw, self._weights = raw, weights
        self.inputs: Sequence[str] = tuple(needed.name for needed in raw.get_inputs())
        self._outputs = [output.name for output in raw.get_outputs()]
        self._plain = not any(output.type in _FOREIGN for output in raw.get_outputs())

    def run(self, feed: Feeds) -> list[npt.NDArray[Any]]:
        """All outputs for these inputs. Raises RunFailed where onnxruntime cannot compute them."""
        with _failing():
            few = len(feed) <= _MANY_INPUTS
            if few and self._plain and not any(_is_foreign(array) for array in feed.values()):
                return list(_arrays(self._raw.run(None, dict(feed))))
            values = {name: _value(array) for name, array in feed.items()}
            return [_array(output) for output in self._raw.run_with_ort_values(self._outputs, values)]

    def bind(self, feed: Feeds) -> Timed:
        """Bind these inputs, so that a run costs as little Python as possible."""
        binding = self._raw.io_binding()
        bound = {name: np.asarray(feed[name], order="C") for name in self.inputs}
        with _failing():
            for name, array in bound.items():
                if _is_foreign(array):
                    binding.bind_ortvalue_input(name, _value(array))
                else:
                    binding.bind_cpu_input(name, array)
        for name in self._outputs:
            binding.bind_output(name)
        run = self._raw.run_with_iobinding

        def timed(runs: int, _alive: object = (self, bound)) -> float:
            with _failing():
                start = time.perf_counter()
                for _ in range(runs):
                    run(binding)
                return time.perf_counter() - start

        return timed


class OnnxProbe(OnnxSession):
    """A network whose nodes onnxruntime's profiler times."""

    def __init__(self, raw: ort.InferenceSession, weights: list[npt.NDArray[Any]], graph: ir.Graph) -> None:
        super().__init__(raw, weights)
        self.graph = graph

    def nodes(self) -> list[NodeRuns]:
        """The nodes in the order they ran; ends profiling."""
        events = json.loads(Path(self._raw.end_profiling()).read_text(encoding="utf-8"))
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        for event in _outermost(e for e in events if e["cat"] == "Node"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            times[key].append(event["dur"] / 1e6)
        return [NodeRuns(*key, seconds) for key, seconds in times.items()]


def _outermost(events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events in order, without those inside another one: an If or a Loop counts its body's time already."""
    end = -1
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] >= end:
            end = event["ts"] + event["dur"]
            yield event


def _provider(name: str) -> str:
    """An execution provider by its name or a short one such as "cuda"."""
    installed = ort.get_available_providers()
    for provider in installed:
        if name.lower() in (provider.lower(), provider.removesuffix("ExecutionProvider").lower()):
            return str(provider)
    have = ", ".join(p.removesuffix("ExecutionProvider").lower() for p in installed)
    raise BadInput(f"`provider` {name}: is not installed; this onnxruntime has {have}")


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise RunFailed(NAME, reason(error)) from error


def reason(error: Exception) -> str:
    """onnxruntime's message on one line, without its codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed:)?", "", str(error))
    return " ".join(text.split())[:300]


def write_optimised(options: ort.SessionOptions, path: Path) -> None:
    """Have the graph that is really run written to a file, and its weights next to it, in `path` + ".data"."""
    options.optimized_model_filepath = str(path)
    _configure(options, "optimized_model_external_initializers_file_name", f"{path.name}.data")
    _configure(options, "optimized_model_external_initializers_min_size_in_bytes", str(_INLINE_BYTES))


def _configure(options: ort.SessionOptions, key: str, value: str) -> None:
    options.add_session_config_entry(f"session.{key}", value)


def _is_foreign(array: npt.NDArray[Any]) -> bool:
    """Whether an array is of a type that numpy itself lacks, such as bfloat16: onnxruntime has to know which."""
    return array.dtype.kind == "V"


def _value(array: npt.NDArray[Any]) -> ort.OrtValue:
    """An array as onnxruntime's own, of its own type; the memory is the array's."""
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, int(ir.DataType.from_numpy(array.dtype)))


def _array(value: ort.OrtValue) -> npt.NDArray[Any]:
    """A copy of onnxruntime's own tensor; of a type that numpy lacks, onnxruntime tells no more than where it lies."""
    dtype = _FOREIGN.get(value.data_type())
    if dtype is None:
        return np.asarray(value.numpy())
    raw = (ctypes.c_char * value.tensor_size_in_bytes()).from_address(value.data_ptr())
    return np.frombuffer(bytes(raw), dtype).reshape(value.shape())


def _arrays(outputs: Iterable[Any]) -> Iterator[npt.NDArray[Any]]:
    """Outputs as arrays: of a sequence all elements, of a map its keys and its values."""
    for output in outputs:
        if isinstance(output, list):
            yield from _arrays(output)
        elif isinstance(output, Mapping):
            yield from (np.array(list(part)) for part in (output.keys(), output.values()))
        else:
            yield np.asarray(output)


def _handed_over(model: ir.Model, options: ort.SessionOptions) -> tuple[bytes, list[npt.NDArray[Any]]]:
    """The model serialised without its large weights, which `options` hands to onnxruntime as they lie in memory."""
    weights: dict[str, npt.NDArray[Any]] = {}
    handed: list[ort.OrtValue] = []
    instead: dict[ir.Value, ir.TensorProtocol] = {}
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                continue
            large = tensor.nbytes >= _INLINE_BYTES and _has_plain_memory(tensor.dtype)
            # onnxruntime drops unused initializers before it looks for those it was handed.
            if graph is model.graph and large and value.uses():
                weights[name] = np.ascontiguousarray(tensor.numpy())
                handed.append(ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weights[name], int(tensor.dtype)))
                instead[value] = ir.ExternalTensor(
                    "memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
                )
            elif isinstance(tensor, ir.ExternalTensor):
                instead[value] = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
    with _standing_in(instead):
        serialised = ir.to_proto(model).SerializeToString()
    if weights:
        options.add_external_initializers(list(weights), handed)
    return serialised, list(weights.values())


@contextmanager
def _standing_in(tensors: Mapping[ir.Value, ir.TensorProtocol]) -> Iterator[None]:
    """Other tensors in the place of weights for a while: copying a graph of thousands of nodes takes seconds."""
    before = {value: value.const_value for value in tensors}
    try:
        for value, tensor in tensors.items():
            value.const_value = tensor
        yield
    finally:
        for value, own in before.items():
            value.const_value = own


def _has_plain_memory(dtype: ir.DataType) -> bool:
    return dtype != ir.DataType.STRING and dtype.bitwidth >= 8


#: onnxruntime on the CPU, with every core.
DEFAULT = OnnxRuntime()
