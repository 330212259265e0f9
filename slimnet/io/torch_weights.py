"""The weights of an exported graph follow its module: each is read from there when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from slimnet.common.errors import BadInput
from slimnet.common.files import essence
from slimnet.common.inputs import sizes
from slimnet.common.torch_private import FAKE_TENSOR

ADVICE = "load and trace the module as it is now"


def follow_module(model: ir.Model, module: nn.Module) -> None:
    """Make the initializers of a freshly exported graph those of a module, at any time.

    Each becomes an `ir.LazyTensor` that reads the parameter, buffer or attribute of its name from the module, however
    that has been changed: in place, replaced by another tensor, moved to another device or to another floating type.
    What lies in no attribute of its own, such as a tensor in a list, follows changes in place, and none where the graph
    was read from a file or the cache; `verify` notices those. Reading raises BadInput where the module can no longer be
    followed, and so does a tensor without values here.
    """
    named: dict[str, torch.Tensor] = {}
    names: dict[Any, list[str]] = {}
    for place in places_of_tensors(module):
        if (memory := _memory(place.tensor)) is not None:
            named[place.name] = place.tensor
            names.setdefault((memory, place.is_registered), []).append(place.name)
    initializers = model.graph.initializers
    for value in initializers.values():
        tensor = value.const_value
        exported = tensor.raw if isinstance(tensor, ir.Tensor) else None
        if not isinstance(exported, torch.Tensor):  # a graph that was read from a file has copies
            exported = named.get(str(value.name))
            if tensor is None or exported is None or not _equal(array_of(exported), tensor.numpy()):
                continue
        assert tensor is not None
        if not has_values(exported):
            raise BadInput(
                f"{type(module).__name__}: {value.name} is a fake tensor, as an export may leave behind; make it anew"
            )
        memory = _memory(exported)
        found = names.get((memory, True)) or names.get((memory, False), [])
        # One of several names of a tied weight stands in the graph; the others must stay tied to it.
        own = [name for name in found if name == value.name] or found[:1]
        tied = tuple(name for name in found if name not in own and name not in initializers)
        shape = tuple(tensor.shape.numpy())
        weight = _Weight(
            module,
            own[0] if own else str(value.name),
            tied,
            None if own else exported,
            isinstance(exported, nn.Parameter),
            shape,
            tensor.dtype,
        )
        value.const_value = ir.LazyTensor(weight, dtype=tensor.dtype, shape=ir.Shape(shape), name=value.name)


def following(model: ir.Model, module: nn.Module) -> ir.Model:
    """A copy of a graph that follows another module of the same class, such as a trained copy."""
    copy = model.clone()
    for value in copy.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.LazyTensor) and isinstance(weight := tensor.raw, _Weight):
            other = replace(weight, module=module)
            value.const_value = ir.LazyTensor(other, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
    return copy


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel, DistributedDataParallel and AveragedModel."""
    while True:
        inner = dict(module.named_children()).get("_orig_mod")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
            inner = module.module
        if inner is None:
            return module
        module = inner


class Place(NamedTuple):
    """A place where a module holds a tensor."""

    name: str
    owner: nn.Module
    key: str
    tensor: torch.Tensor

    @property
    def is_registered(self) -> bool:
        """Whether the tensor is a parameter or a buffer there, not a plain attribute."""
        return self.key not in vars(self.owner)


def places_of_tensors(module: nn.Module) -> Iterator[Place]:
    """Every place of a tensor that is a parameter, a buffer or a plain attribute; one tensor may have several."""
    for prefix, child in module.named_modules(remove_duplicate=False):
        parameters = child.named_parameters(recurse=False, remove_duplicate=False)
        buffers = child.named_buffers(recurse=False, remove_duplicate=False)
        for key, tensor in (*parameters, *buffers, *vars(child).items()):
            if isinstance(tensor, torch.Tensor):
                yield Place(f"{prefix}.{key}" if prefix else key, child, key, tensor)


@dataclass(frozen=True)
class _Weight:
    """Reads one weight from a module.

    Attributes:
        module: The module.
        name: The name of the parameter, buffer or attribute.
        tied: The other names that the same tensor had when the module was exported.
        nameless: The tensor itself where no attribute of its own holds it, else None.
        is_parameter: Whether it was a parameter.
        shape: Its shape in the graph.
        dtype: Its type in the graph.
    """

    module: nn.Module = field(repr=False)
    name: str
    tied: tuple[str, ...]
    nameless: torch.Tensor | None
    is_parameter: bool
    shape: tuple[int, ...]
    dtype: ir.DataType

    def __call__(self) -> ir.TensorProtocol:
        tensor = self._at(self.name) if self.nameless is None else self.nameless
        array = self._read(self.name, tensor)
        for name in self.tied:
            other = self._at(name)
            if other is not tensor and not _equal(self._read(name, other), array):
                raise self._refused(name, f"had the values of {self.name} when it was traced and has others now")
        array = array.view()
        array.flags.writeable = False
        return ir.Tensor(array, self.dtype)

    def _read(self, name: str, tensor: torch.Tensor | None) -> np.ndarray:
        """The values of a tensor in the type of the graph; not a copy where they lie in main memory as such."""
        if tensor is None:
            raise self._refused(name, "is no tensor of the module any more")
        if tensor.shape != self.shape:
            raise self._refused(name, f"is {sizes(tensor.shape)} now and was {sizes(self.shape)} when it was traced")
        if not has_values(tensor):
            raise self._refused(name, "has no values any more")
        try:
            array = array_of(tensor)
        except (RuntimeError, TypeError) as error:
            raise self._refused(name, f"cannot be read ({essence(error)})") from error
        wanted = self.dtype.numpy()
        if array.dtype != wanted and not (tensor.is_floating_point() and self.dtype.is_floating_point()):
            raise self._refused(name, f"is {array.dtype} now and was {wanted} when it was traced")
        return array.astype(wanted, copy=False)

    def _at(self, name: str) -> torch.Tensor | None:
        """The tensor that the module has under a name now, if any."""
        path, _, key = name.rpartition(".")
        owner = unwrapped(self.module)
        for part in filter(None, path.split(".")):
            child = getattr(owner, part, None)
            if not isinstance(child, nn.Module):
                return None
            owner = unwrapped(child)
        found = getattr(owner, key, None)
        if self.is_parameter and not isinstance(found, nn.Parameter) and key in vars(owner):
            # A hook makes it from others in every forward; what torch.nn.utils.prune makes it from is known.
            weight, mask = getattr(owner, f"{key}_orig", None), getattr(owner, f"{key}_mask", None)
            found = None if weight is None or mask is None else weight * mask
        return found if isinstance(found, torch.Tensor) else None

    def _refused(self, name: str, why: str) -> BadInput:
        return BadInput(f"{type(self.module).__name__}: {name} {why}; {ADVICE}")


def has_values(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds numbers: not on the meta device, not while torch traces, not before a first run."""
    return not (tensor.is_meta or isinstance(tensor, FAKE_TENSOR) or is_lazy(tensor))


def _memory(tensor: torch.Tensor) -> Any:
    """What two names of one tensor have in common; None where a tensor has no memory."""
    if not has_values(tensor) or tensor.layout != torch.strided or not tensor.numel():
        return None
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """The values of a tensor, also of types that numpy lacks; not a copy where they lie in main memory."""
    return TorchTensor(tensor.detach()).numpy()
