"""Parts of many weight tensors as one flat vector: norms and gradients of group regularisers in a few large steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slimnet.graph.parameters import Role
from slimnet.graph.registry import Trait

if TYPE_CHECKING:
    from slimnet.graph.units import Group

Numbers = npt.NDArray[np.int64]

#: Weights whose sum of squares is less count as zero: the gradients of their norms would overflow float32.
NOTHING = 1e-30


@dataclass(frozen=True)
class Slice:
    """How one weight falls into parameter groups.

    Attributes:
        tensor: The name of the weight.
        numbers: The number of the group that each element belongs to, -1 for none; int64, broadcastable to the weight
            and of its rank: [O, 1, 1, 1] says it per filter, [1, I, kh, kw] per column.
    """

    tensor: str
    numbers: Numbers


class ParameterGroups:
    """Groups of weights, each the union of slices of one or more tensors: what a group regulariser draws to zero.

    All that a group regulariser needs is the sum of squares (or magnitudes) of every group and, for the gradient, every
    weight times a number that belongs to its group. Both touch each weight once per slice, with no loop over groups.

    Attributes:
        count: The number of groups.
        part: The partition that each group belongs to (a layer's rows, a trace's group, ...), int64 [count], ascending.
        parts: The number of partitions.
        sizes: The number of groups in each partition, int64 [parts].
        elements: The number of weights in each group, float [count].
        tensors: The weights that are in any group, by name.
    """

    def __init__(self, params: Mapping[str, Tensor], slices: Iterable[Slice], part: Numbers, parts: int) -> None:
        self.count, self.parts, self.sizes = len(part), parts, np.bincount(part, minlength=parts)
        self._slices: dict[str, list[Tensor]] = {}
        device = next((p.device for p in params.values()), torch.device("cpu"))
        # The group after the last one takes what belongs to none.
        for s in slices:
            numbers = torch.from_numpy(np.where(s.numbers < 0, self.count, s.numbers))
            self._slices.setdefault(s.tensor, []).append(numbers.to(device))
        self.tensors = {name: params[name] for name in self._slices}
        every = [numbers.flatten() for _, numbers in self._uses()]
        self._order = torch.cat(every) if every else torch.zeros(0, dtype=torch.int64, device=device)
        self.part = torch.from_numpy(part).to(device)
        sizes = [torch.full((n.numel(),), w.numel() / n.numel(), device=device) for w, n in self._uses()]
        self.elements = self._collect(sizes, torch.float32)

    @classmethod
    def of_units(cls, groups: Sequence[Group], params: Mapping[str, Tensor], role: Role) -> ParameterGroups:
        """One parameter group for each unit: all its filters (`Role.OUT`), or all that reads it (`Role.IN`).

        Those of a traced group are one partition. Only weights count (two axes or more), not biases or batch norms.
        """
        ranges, part = _ranges([len(group) for group in groups])
        slices: dict[tuple[str, int], Numbers] = {}
        for group, units in zip(groups, ranges, strict=True):
            for m in group.members:
                if m.role & role and m.tensor in params and params[m.tensor].ndim > 1:
                    numbers = slices.setdefault((m.tensor, m.axis), np.full(params[m.tensor].shape[m.axis], -1))
                    numbers[m.index] = units[:, None]
        along = [Slice(t, _along(numbers, axis, params[t].ndim)) for (t, axis), numbers in slices.items()]
        return cls(params, along, part, len(groups))

    @classmethod
    def of_layers(cls, params: Mapping[str, Tensor], axis: int) -> ParameterGroups:
        """One parameter group for each index of an axis (0: filters or rows, 1: channels or columns) of every weight.

        Weights are not coupled here. One that goes by several names counts once.
        """
        names: dict[int, str] = {}
        for name, p in params.items():
            if p.ndim > 1:
                names.setdefault(id(p), name)
        ranges, part = _ranges([params[name].shape[axis] for name in names.values()])
        slices = [Slice(n, _along(r, axis, params[n].ndim)) for n, r in zip(names.values(), ranges, strict=True)]
        return cls(params, slices, part, len(slices))

    @classmethod
    def of_columns(cls, groups: Sequence[Group], params: Mapping[str, Tensor]) -> ParameterGroups:
        """One parameter group for each im2col column [:, channel, y, x] of every convolution with filters in a group.

        Convolutions are not coupled here: the columns of each are one partition. Grouped and transposed convolutions
        have no such columns.
        """
        convs = [m.tensor for g in groups for m in g.members if m.role & Role.OUT and m.axis == 0 and m.tensor in params
                 and Trait.CONVOLUTION in m.use.traits and m.use.groups == 1]  # fmt: skip
        shapes = {name: (1, *params[name].shape[1:]) for name in convs}
        ranges, part = _ranges([math.prod(shape) for shape in shapes.values()])
        slices = [Slice(name, r.reshape(shape)) for (name, shape), r in zip(shapes.items(), ranges, strict=True)]
        return cls(params, slices, part, len(slices))

    def squares(self) -> Tensor:
        """Sum of squares of every group, 0 where it is next to nothing: float32 [count]."""
        squares = self._collect([_sums(w, numbers, torch.square) for w, numbers in self._uses()], torch.float32)
        return torch.where(squares > NOTHING, squares, 0)

    def magnitudes(self) -> Tensor:
        """Sum of absolute values of every group: float64 [count], so that ranks do not depend on the order of sums."""
        return self._collect([_sums(w, numbers, torch.abs).double() for w, numbers in self._uses()], torch.float64)

    def mean_magnitudes(self) -> list[npt.NDArray[np.float64]]:
        """Mean absolute value of the groups of each partition; NaN for a group without weights."""
        return self.split((self.magnitudes() / self.elements).cpu().numpy())

    def split(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """An array [count] by partition."""
        return np.split(values, np.cumsum(self.sizes)[:-1]) if self.parts else []

    def add_to_gradients(self, factor: Tensor) -> None:
        """Add factor[group] * w to the gradient of every weight: factor is float32 [count]."""
        factor = torch.cat([factor, factor.new_zeros(1)])
        for name, slices in self._slices.items():
            w = self.tensors[name]
            if w.grad is not None:
                _add_scaled(w.grad, w.detach(), [factor[numbers].to(w.dtype) for numbers in slices])

    def masked(self, chosen: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The weights with at least one chosen group, with a bool tensor broadcastable to each, true where chosen.

        `chosen` is bool [count].
        """
        chosen = torch.cat([chosen, chosen.new_zeros(1)])
        for name, slices in self._slices.items():
            mask = chosen[slices[0]]
            for numbers in slices[1:]:
                mask = mask | chosen[numbers]
            if mask.any():
                yield name, mask

    def fractions(self, chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
        """Fraction of the filters of each weight that fall into the chosen groups (bool [count]), of those in any."""
        found = {}
        for name, slices in self._slices.items():
            numbers = np.concatenate([i.flatten().cpu().numpy() for i in slices])
            found[name] = float(chosen[numbers[numbers < self.count]].mean())
        return found

    def sum_by_part(self, values: Tensor) -> Tensor:
        """Sums of a vector [count] over each partition: [parts]."""
        return values.new_zeros(self.parts).index_add_(0, self.part, values)

    def _uses(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((self.tensors[name], numbers) for name, slices in self._slices.items() for numbers in slices)

    def _collect(self, values: list[Tensor], dtype: torch.dtype) -> Tensor:
        out = torch.zeros(self.count + 1, device=self._order.device, dtype=dtype)
        return out.index_add_(0, self._order, torch.cat(values).to(dtype))[:-1] if values else out[:-1]


def _sums(w: Tensor, numbers: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Sums of `of(w)` over the axes along which all weights share a group, in float32 at least, flat."""
    values = of(w.detach() if w.dtype == torch.float64 else w.detach().float())
    if numbers.shape[0] == 1:  # whole rows added up: an order of magnitude faster than jumping between them
        values = values.flatten(1).sum(0).view(1, *w.shape[1:])
    others = [k for k in range(w.ndim) if numbers.shape[k] == 1 < values.shape[k]]
    return values.sum(others).flatten() if others else values.flatten()


def _add_scaled(grad: Tensor, w: Tensor, factors: Sequence[Tensor]) -> None:
    """Compute grad += w * (sum of the factors, each of which broadcasts to w)."""
    by_row = all(f.shape[0] == 1 or f.shape[0] == f.numel() for f in factors)
    if grad.is_contiguous() and by_row:  # as matrices of long rows: many times faster
        row = (1, *w.shape[1:])
        factors = [f.reshape(-1, 1) if f.shape[0] > 1 else f.expand(row).reshape(1, -1) for f in factors]
        grad, w = grad.flatten(1), w.flatten(1)
    grad.addcmul_(w, sum(factors[1:], factors[0]))


def _ranges(sizes: Sequence[int]) -> tuple[list[Numbers], Numbers]:
    """The numbers of the groups of each partition, and the partition of each group."""
    start = np.cumsum([0, *sizes])
    return [np.arange(a, b) for a, b in pairwise(start)], np.repeat(np.arange(len(sizes)), sizes)


def _along(numbers: Numbers, axis: int, rank: int) -> Numbers:
    return numbers.reshape([-1 if k == axis else 1 for k in range(rank)])
