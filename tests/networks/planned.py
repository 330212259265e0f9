"""Traces of small made-up networks, as the tracer would give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slimnet.common.errors import BadInput
from slimnet.graph.parameters import Use
from slimnet.graph.units import Axis, Group, Member, Role


@dataclass
class Net:
    """A trace under construction: channels are made by `group`, and `weight` lays them on the axes of a tensor."""

    groups: list[Group] = field(default_factory=list)
    axes: list[Axis] = field(default_factory=list)
    param_sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    n_units: int = 0
    widths: list[int] = field(default_factory=list)
    tensors: list[tuple[str, Any, Any, str, int, int, int]] = field(default_factory=list)

    def group(self, width: int) -> int:
        """A new group of `width` units; its number."""
        self.widths.append(width)
        return len(self.widths) - 1

    def weight(
        self,
        name: str,
        out: Sequence[int] | int,
        into: Sequence[int] | int,
        kernel: int = 9,
        layout: str = "conv",
        repeat: int = 1,
        grouped: int = 1,
    ) -> None:
        """A weight [out, in, kernel]; each side is a number of fixed channels (negative) or group numbers in order.

        `repeat` is how many indices each unit has in a row: inputs behind a Flatten, or outputs of a conv group that
        goes as a whole. With `grouped` alone, units are the same offset in every conv group.
        """
        self.tensors.append((name, out, into, layout, kernel, repeat, grouped))

    def check_removable(self) -> None:
        """As a trace does."""
        if not self.groups:
            raise BadInput("nothing can be removed: every channel is pinned")

    def done(self) -> Any:
        """Lay out units, groups and axes."""
        starts = np.cumsum([0, *self.widths])
        self.n_units = int(starts[-1])
        members: list[list[Member]] = [[] for _ in self.widths]
        for name, out, into, layout, kernel, repeat, grouped in self.tensors:
            whole = grouped > 1 and repeat > 1
            outputs = self._units(out, starts, repeat if whole else 1, 1 if whole else grouped)
            sides = [outputs, self._units(into, starts, 1 if whole else repeat, 1)]
            self.param_sizes[name] = (len(sides[0]), len(sides[1]), kernel)
            for k, (units, role, word) in enumerate(zip(sides, (Role.OUT, Role.IN), ("out", "in"), strict=True)):
                if (units < 0).all():
                    continue
                self.axes.append(Axis(f"{name} {word}", units, layout, grouped, 0))
                for g, width in enumerate(self.widths):
                    index = np.flatnonzero((units >= starts[g]) & (units < starts[g] + width))
                    if len(index):
                        order = np.argsort(units[index], kind="stable")
                        members[g].append(Member(name, k, role, index[order].reshape(width, -1), Use("Conv", "W")))
        for g, found in enumerate(members):
            name = next((m.tensor for m in found if m.role & Role.OUT), f"group{g}")
            kind = " ".join(sorted(f"{m.axis}/{m.index.shape[1]}" for m in found))
            self.groups.append(Group(name, np.arange(starts[g], starts[g + 1]), tuple(found), kind))
        return self

    def _units(self, side: Sequence[int] | int, starts: Any, repeat: int, grouped: int) -> Any:
        if isinstance(side, int):
            side = [side]
        parts = [np.full(-g, -1) if g < 0 else np.arange(starts[g], starts[g + 1]) for g in side]
        return np.tile(np.repeat(np.concatenate(parts), repeat), grouped)


def chain(*widths: int, image: int = 3, classes: int = 10) -> Any:
    """Convolutions one after another and a classifier."""
    net = Net()
    before: int = -image
    for i, width in enumerate(widths):
        group = net.group(width)
        net.weight(f"conv{i}.weight", group, before)
        before = group
    net.weight("fc.weight", -classes, before, kernel=1, layout="gemm")
    return net.done()


def resnet(*widths: int, blocks: int = 2) -> Any:
    """Basic blocks with a projection at the start of each stage."""
    net = Net()
    stream = net.group(widths[0])
    net.weight("stem.weight", stream, -3)
    for s, width in enumerate(widths):
        for b in range(blocks):
            inner = net.group(width)
            net.weight(f"layer{s}.{b}.conv1.weight", inner, stream)
            if b == 0 and s > 0:
                into, stream = stream, net.group(width)
                net.weight(f"layer{s}.0.down.weight", stream, into, kernel=1)
            net.weight(f"layer{s}.{b}.conv2.weight", stream, inner)
    net.weight("fc.weight", -10, stream, kernel=1, layout="gemm")
    return net.done()


def padded_resnet(*widths: int, blocks: int = 3) -> Any:
    """ResNet for CIFAR with option-A shortcuts: a stage's stream is the last one between new channels."""
    net = Net()
    stream: list[int] = [net.group(widths[0])]
    net.weight("stem.weight", stream, -3)
    for s, width in enumerate(widths):
        for b in range(blocks):
            inner = net.group(width)
            net.weight(f"layer{s}.{b}.conv1.weight", inner, stream)
            if b == 0 and s > 0:
                pad = (width - widths[s - 1]) // 2
                stream = [net.group(pad), *stream, net.group(pad)]
            net.weight(f"layer{s}.{b}.conv2.weight", stream, inner)
    net.weight("fc.weight", -10, stream, kernel=1, layout="gemm")
    return net.done()


def densenet(stem: int, growth: int, layers: int, bottleneck: int = 4) -> Any:
    """One dense block: every layer reads all channels made so far."""
    net = Net()
    made = [net.group(stem)]
    net.weight("stem.weight", made, -3)
    for i in range(layers):
        inner = net.group(bottleneck * growth)
        net.weight(f"layer{i}.conv1.weight", inner, list(made), kernel=1)
        made.append(net.group(growth))
        net.weight(f"layer{i}.conv2.weight", made[-1], inner)
    net.weight("fc.weight", -1000, made, kernel=1, layout="gemm")
    return net.done()


def lengths(net: Any, removed: Any) -> dict[str, int]:
    """What is left of each axis."""
    keep = np.append(~removed, True)
    return {axis.name: int(keep[axis.units].sum()) for axis in net.axes}


def parameters(net: Any, removed: Any) -> float:
    """Fraction of the parameters that is left."""
    left = lengths(net, removed)
    total = rest = 0.0
    for name, (out, into, kernel) in net.param_sizes.items():
        total += out * into * kernel
        rest += left.get(f"{name} out", out) * left.get(f"{name} in", into) * kernel
    return rest / total


def scores(net: Any, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.random(len(group.units)) for group in net.groups]
