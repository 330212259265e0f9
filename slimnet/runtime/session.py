"""onnxruntime sessions, and inputs to feed them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from slimnet.common.errors import BadInput
from slimnet.common.files import existing_file

RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(runtime).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
)
LOAD_ERRORS: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, OSError)

_INLINE_BYTES = 1024

CPU = "CPUExecutionProvider"


class _Session(ort.InferenceSession):
    """A session that keeps alive the arrays it was given its weights in."""

    def __init__(
        self, model: bytes | str, options: ort.SessionOptions, weights: list[np.ndarray], provider: str
    ) -> None:
        self._weights = weights
        # What a provider has no kernel for runs on the CPU.
        super().__init__(model, options, providers=list(dict.fromkeys([provider, CPU])))


def provider_named(name: str) -> str:
    """An execution provider by its name or a short one such as "cuda".

    Raises:
        BadInput: it is not installed.
    """
    installed = ort.get_available_providers()
    for provider in installed:
        if name.lower() in (provider.lower(), provider.removesuffix("ExecutionProvider").lower()):
            return str(provider)
    have = ", ".join(p.removesuffix("ExecutionProvider").lower() for p in installed)
    raise BadInput(f"--provider {name}: is not installed; this onnxruntime has {have}")


def session(
    model: ir.Model | str | os.PathLike[str],
    threads: int | None = None,
    optimise: bool = True,
    profile_prefix: Path | None = None,
    optimised_path: Path | None = None,
    provider: str = CPU,
) -> ort.InferenceSession:
    """An onnxruntime session of `model`, which is left as it is; on the CPU if `provider` says nothing else.

    The weights of an `ir.Model` are handed over without being serialised, so models above protobuf's 2 GB work too.
    `threads` is the size of the thread pool (None: onnxruntime's choice, one per core), `optimise` switches all graph
    optimisations on or off. `profile_prefix` turns on the profiler, whose file starts so; `optimised_path` is where to
    write the graph that is really run (its weights next to it, in `optimised_path` + ".data").
    Raises BadInput, naming the file, when onnxruntime cannot load the model, and for less than one thread.
    """
    options = _options(threads, optimise)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
        _configure(options, "optimized_model_external_initializers_file_name", f"{optimised_path.name}.data")
        _configure(options, "optimized_model_external_initializers_min_size_in_bytes", str(_INLINE_BYTES))
    try:
        if isinstance(model, ir.Model):
            return _Session(*_handed_over(model, options), provider)
        return _Session(str(existing_file(model)), options, [], provider)
    except LOAD_ERRORS as error:
        raise BadInput(f"{title(model)}: onnxruntime cannot load it: {reason(error)}") from error


def tap(model: ir.Model, values: Sequence[str]) -> ort.InferenceSession:
    """A session of a copy of a model that puts out these values, inner ones or inputs, in place of its outputs."""
    copy = model.clone()
    found = {v.name: v for v in copy.graph.inputs} | {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs[:] = [found[name] for name in values]
    return session(copy)


def title(model: ir.Model | str | os.PathLike[str]) -> str:
    """How a message names a model: its file, or its graph's name."""
    return (model.graph.name or "the model") if isinstance(model, ir.Model) else str(model)


def reason(error: Exception) -> str:
    """onnxruntime's message on one line, without its codes."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed:)?", "", str(error))
    return " ".join(text.split())[:300]


def _options(threads: int | None, optimise: bool) -> ort.SessionOptions:
    if threads is not None and threads < 1:
        raise BadInput(f"--threads {threads}: give at least 1, or leave it out to use every core")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    # Idle workers of one session spin for milliseconds and would take the cores from the session timed next.
    _configure(options, "force_spinning_stop", "1")
    return options


def _configure(options: ort.SessionOptions, key: str, value: str) -> None:
    options.add_session_config_entry(f"session.{key}", value)


def _handed_over(model: ir.Model, options: ort.SessionOptions) -> tuple[bytes, ort.SessionOptions, list[np.ndarray]]:
    """The model serialised without its large weights, which `options` hands to onnxruntime as they lie in memory."""
    shell = model.clone()
    weights: dict[str, np.ndarray] = {}
    values = []
    for graph in shell.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                continue
            large = tensor.nbytes >= _INLINE_BYTES and _has_plain_memory(tensor.dtype)
            # onnxruntime drops unused initializers before it looks for those it was handed.
            if graph is shell.graph and large and value.uses():
                weights[name] = np.ascontiguousarray(tensor.numpy())
                values.append(ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weights[name], int(tensor.dtype)))
                value.const_value = ir.ExternalTensor(
                    "memory", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
                )
            elif isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
    if weights:
        options.add_external_initializers(list(weights), values)
    return ir.to_proto(shell).SerializeToString(), options, list(weights.values())


def _has_plain_memory(dtype: ir.DataType) -> bool:
    return dtype != ir.DataType.STRING and dtype.bitwidth >= 8
