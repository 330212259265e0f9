"""Operators that move elements without computing: index arithmetic on labels."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from slimnet.graph.axes import Labels, fixed, is_live, not_zero, signed
from slimnet.graph.op import Axes, Op, Result, Role, Unsupported, broadcast
from slimnet.graph.registry import Trait, describe, rule

#: Everything that reorders the elements of its first input.
_MOVES = Trait.MOVES | Trait.PASSES_INDICES


@rule("Transpose", traits=_MOVES)
def transpose(op: Op) -> Result:
    axes = op.axes(0)
    return [[axes[k] for k in op.attr("perm", range(len(axes))[::-1])]]


@rule("Squeeze", traits=_MOVES)
def squeeze(op: Op) -> Result:
    axes = op.axes(0)
    drop = op.ints(1, "axes", [k for k, labels in enumerate(axes) if len(labels) == 1])
    if drop is None:
        raise Unsupported("its axes are not constant")
    dropped = {k % len(axes) for k in drop}
    if not op.has(1) and op.attr("axes") is None:
        # An axis that is cut down to one channel must not be dropped too.
        op.freeze(1 if op.opset >= 13 else "axes", sorted(dropped))
    return [[labels for k, labels in enumerate(axes) if k not in dropped]]


@rule("Unsqueeze", traits=_MOVES)
def unsqueeze(op: Op) -> Result:
    axes, new = op.axes(0), op.ints(1, "axes")
    if new is None:
        raise Unsupported("its axes are not constant")
    rank = len(axes) + len(new)
    added = {k % rank for k in new}
    rest = iter(axes)
    return [[fixed(1) if k in added else next(rest) for k in range(rank)]]


@rule("Reshape", traits=_MOVES)
def reshape(op: Op) -> Result:
    """Axes split into grids and grids merge into axes; see `regroup`. The target counts what is live."""
    axes = op.axes(0)
    target = op.ints(1, "shape")
    if target is None:
        raise Unsupported("its target shape is computed while the network runs")
    lengths = [len(labels) for labels in axes]
    shape = _resolve(target, lengths, bool(op.attr("allowzero", 0)))
    out = regroup(op, axes, shape)
    op.lengths(1 if op.has(1) else "shape", {k: out[k] for k, n in enumerate(target) if n != -1})
    return [out]


def _resolve(target: Sequence[int], lengths: Sequence[int], allow_zero: bool) -> list[int]:
    shape = [lengths[k] if n == 0 and not allow_zero else n for k, n in enumerate(target)]
    rest = math.prod(n for n in shape if n != -1)
    shape = [math.prod(lengths) // rest if n == -1 and rest else n for n in shape]
    if math.prod(shape) != math.prod(lengths):
        raise Unsupported(f"a tensor of shape {tuple(lengths)} cannot become {tuple(shape)}")
    return shape


@rule("Flatten", traits=_MOVES)
def flatten(op: Op) -> Result:
    axes = op.axes(0)
    split = op.attr("axis", 1)
    split += len(axes) if split < 0 else 0
    return [regroup(op, axes, [math.prod(map(len, axes[:split])), math.prod(map(len, axes[split:]))])]


def regroup(op: Op, axes: Axes, shape: Sequence[int]) -> Axes:
    """The labels after a row-major reshape.

    Both shapes are cut into blocks of equal product. Within a block each input axis is split into the common factors
    of both sides, and the factors are merged into the output axes.
    """
    lengths = [len(labels) for labels in axes]
    if math.prod(lengths) == 0:
        raise Unsupported("an empty tensor")
    out: Axes = []
    for inside, outside in _blocks(lengths, shape):
        block = [axes[k] for k in inside]
        if not any(is_live(labels) for labels in block):
            out += [fixed(shape[k]) for k in outside]
            continue
        factors = _common_factors([lengths[k] for k in inside], [shape[k] for k in outside])
        if factors is None:
            block = [_merge(op, block)]
            factors = ([[shape[k] for k in outside]], [[shape[k]] for k in outside])
        pieces = [piece for labels, cut in zip(block, factors[0], strict=True) for piece in _split(op, labels, cut)]
        for cut in factors[1]:
            out.append(_merge(op, pieces[: len(cut)]))
            pieces = pieces[len(cut) :]
    return out


def _blocks(a: Sequence[int], b: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes of both shapes paired into the smallest runs of equal product."""
    blocks, i, j = [], 0, 0
    while i < len(a) or j < len(b):
        left, right = [i] if i < len(a) else [], [j] if j < len(b) else []
        size_a, size_b = math.prod(a[k] for k in left), math.prod(b[k] for k in right)
        i, j = i + len(left), j + len(right)
        while size_a != size_b:
            if size_a < size_b:
                left.append(i)
                size_a, i = size_a * a[i], i + 1
            else:
                right.append(j)
                size_b, j = size_b * b[j], j + 1
        # An axis of length one at the edge belongs to its own block, unless a side would be empty.
        blocks.append((left, right))
    return blocks


def _common_factors(a: Sequence[int], b: Sequence[int]) -> tuple[list[list[int]], list[list[int]]] | None:
    """Cut the lengths of both sides at each other's borders; None if a border divides nothing."""
    ends_a, ends_b = np.cumprod(a).tolist(), np.cumprod(b).tolist()
    ends = sorted({1, *ends_a, *ends_b})
    steps = []
    for low, high in pairwise(ends):
        if high % low:
            return None
        steps.append((high, high // low))

    def cut(stops: list[int]) -> list[list[int]]:
        pieces, start = [], 1
        for stop in stops:
            pieces.append([step for end, step in steps if start < end <= stop])
            start = stop
        return pieces

    return cut(ends_a), cut(ends_b)


def _split(op: Op, labels: Labels, shape: Sequence[int]) -> Axes:
    """An axis as a grid: if its labels vary along one axis only, that axis has them; else one axis is chosen later."""
    if len(shape) == 0:
        return []
    if len(shape) == 1 or not is_live(labels):
        return [labels] if len(shape) == 1 else [fixed(n) for n in shape]
    grid = np.abs(labels).reshape(tuple(shape))
    varying = [k for k in range(grid.ndim) if not (grid == grid.take([0], k)).all()]
    if len(varying) == 1:
        lines = np.moveaxis(labels.reshape(grid.shape), varying[0], 0).reshape(shape[varying[0]], -1)
        line = signed(lines[:, 0], np.all(lines > 0, axis=1))
        return [line if k == varying[0] else fixed(n) for k, n in enumerate(shape)]
    return op.grid(labels, shape)


def _merge(op: Op, pieces: Axes) -> Labels:
    """Several axes laid into one, the last running fastest."""
    if len(pieces) == 1:
        return pieces[0]
    shape = [len(labels) for labels in pieces]
    live = [k for k, labels in enumerate(pieces) if is_live(labels)]
    if not live:
        return fixed(math.prod(shape))
    if len(live) == 1:
        k = live[0]
        return np.tile(np.repeat(pieces[k], math.prod(shape[k + 1 :])), math.prod(shape[:k]))
    zero = np.zeros((), bool)
    for k in live:
        zero = np.logical_and.outer(zero, pieces[k] > 0) if k != live[0] else pieces[k] > 0
    flat = op.fresh(math.prod(shape))
    if not zero.all():
        flat = -flat
    op.grid(flat, shape, pieces)
    return flat


@rule("Concat", traits=Trait.MOVES)
def concat(op: Op) -> Result:
    operands = [op.axes(i) for i in range(len(op.values))]
    axis = op.attr("axis", 1) % len(operands[0])
    out = []
    for k in range(len(operands[0])):
        column = [axes[k] for axes in operands]
        out.append(np.concatenate(column) if k == axis else broadcast(op, [[labels] for labels in column], "all")[0])
    return [out]


@rule("Split", traits=Trait.MOVES)
def split(op: Op) -> Result:
    axes = op.axes(0)
    axis = op.attr("axis", 0) % len(axes)
    length, count = len(axes[axis]), len(op.node.outputs)
    sizes = op.ints(1, "split")
    if sizes is None and op.has(1):
        raise Unsupported("its sizes are not constant")
    if sizes is None:
        step = -(-length // count)
        sizes = [min(step, length - i * step) for i in range(count)]
    pieces = np.split(axes[axis], np.cumsum(sizes)[:-1])
    op.lengths(1 if op.opset >= 13 else "split", dict(enumerate(pieces)))
    op.non_empty(*pieces)
    return [[*axes[:axis], piece, *axes[axis + 1 :]] for piece in pieces]


@rule("Slice", traits=_MOVES | Trait.READS_PART)
def slice_(op: Op) -> Result:
    axes = op.axes(0)
    starts, ends = op.ints(1, "starts"), op.ints(2, "ends")
    if starts is None or ends is None:
        raise Unsupported("its bounds are not constant")
    along = op.ints(3, "axes", list(range(len(starts))))
    steps = op.ints(4, None, [1] * len(starts))
    if along is None or steps is None:
        raise Unsupported("its axes are not constant")
    low: dict[int, Labels] = {}
    high: dict[int, Labels] = {}
    for e, (start, end, k, step) in enumerate(zip(starts, ends, along, steps, strict=True)):
        labels = axes[k]
        axes[k] = labels[slice(start, None if step < 0 and end < -len(labels) else end, step)]
        if not is_live(labels):
            continue
        op.non_empty(axes[k])
        if step != 1:
            if len(starts) > 1:
                raise Unsupported("slices several axes with a step")
            op.restep(k % len(axes), np.arange(len(labels))[start:end:step], labels)
            continue
        # Counted from the front: from the back, a bound that comes to be 0 would mean the other end.
        if start != 0:
            low[e] = labels[:start]
        if -len(labels) < end < len(labels):
            high[e] = labels[:end]
    by_input = op.has(1)
    op.lengths(1 if by_input else "starts", low)
    op.lengths(2 if by_input else "ends", high)
    return [axes]


describe("GatherElements", traits=Trait.LOOKS_UP | Trait.READS_PART)


@rule("Gather", traits=_MOVES | Trait.LOOKS_UP | Trait.READS_PART)
def gather(op: Op) -> Result:
    axis = op.attr("axis", 0) % op.rank(0)
    before = [op.axis(0, k) for k in range(axis)]
    after = [op.axis(0, k) for k in range(axis + 1, op.rank(0))]
    for k in range(axis + 1, op.rank(0)):
        op.role(0, k, Role.OUT, "data")
    labels, index = op.peek(0)[axis], op.data(1)
    if index is None:
        return [[*before, *op.axes(1), *after]]
    if not is_live(labels):
        return [[*before, *(fixed(n) for n in index.shape), *after]]
    picked = op.axis(0, axis)[index % len(labels)]
    op.renumber(1, labels)
    op.non_empty(picked.ravel())
    return [[*before, *_picked(op, picked), *after]]


def _picked(op: Op, picked: Labels) -> Axes:
    """Axes of a constant index tensor, given the labels it picks: they follow each other."""
    axes = op.axes(1)
    wide = [k for k, n in enumerate(picked.shape) if n > 1]
    if not wide:
        op.pin(picked.ravel(), "is picked by its position")
    elif len(wide) == 1:
        op.same(axes[wide[0]], picked.ravel())
        axes[wide[0]] = picked.ravel()
    else:
        op.grid(picked.ravel(), picked.shape, axes)
        axes = axes if (picked > 0).all() else [not_zero(labels) for labels in axes]
    return axes


@rule("GatherND", traits=Trait.MOVES | Trait.READS_PART)
def gather_nd(op: Op) -> Result:
    """Constant or computed coordinates pick from the leading axes; the trailing axes pass."""
    if op.attr("batch_dims", 0):
        raise Unsupported("GatherND with batch axes")
    if not op.known(1):
        raise Unsupported("the shape of its indices is not known")
    *grid, depth = op.shape(1)
    return [[*(fixed(n) for n in grid), *(op.axis(0, k) for k in range(depth, op.rank(0)))]]


@rule("ScatterND")
def scatter_nd(op: Op) -> Result:
    """Constant positions along the first axis are overwritten; the other axes of data and updates are equal."""
    index = op.data(1)
    if index is None or index.ndim != 2 or index.shape[1] != 1:
        raise Unsupported("its indices are not constant positions on the first axis")
    data, updates = op.axes(0), op.axes(2)
    first = data[0]
    position = index[:, 0] % len(first)
    written = first[position]
    op.same(written, updates[0])
    if is_live(first):
        op.same(op.axis(1, 0), written)
        op.renumber(1, first)
        first = first.copy()
        first[position] = signed(written, (written > 0) & (updates[0] > 0))
    rest = [broadcast(op, [[a], [b]], "all")[0] for a, b in zip(data[1:], updates[1:], strict=True)]
    return [[first, *rest]]


@rule("Pad")
def pad(op: Op) -> Result:
    """Padding a live axis with zeros adds channels that can be removed again."""
    amounts = op.ints(1, "pads", op.attr("paddings"))
    if amounts is None:
        raise Unsupported("its amounts are not constant")
    axes = op.axes(0)
    over = op.ints(3, None, list(range(len(axes))))
    if over is None:
        raise Unsupported("its axes are not constant")
    constant = op.attr("mode", b"constant") in (b"constant", "constant")
    value = op.data(2) if op.has(2) else np.asarray(op.attr("value", 0.0))
    zeros = value is not None and not np.any(value)
    counts: dict[int, Labels] = {}
    for e, k in enumerate(over):
        before, after = amounts[e], amounts[e + len(over)]
        if before == after == 0:
            continue
        if is_live(axes[k]) and (not constant or min(before, after) < 0):
            op.pin(axes[k], "is padded with its own values, or cropped")
        grow = is_live(axes[k]) and constant
        head = op.fresh(before) if grow and before > 0 else fixed(max(before, 0))
        tail = op.fresh(after) if grow and after > 0 else fixed(max(after, 0))
        kept = axes[k][max(-before, 0) : len(axes[k]) + min(after, 0)]
        if grow:
            counts |= {e: head, e + len(over): tail}
            head, tail = (head, tail) if zeros else (not_zero(head), not_zero(tail))
        axes[k] = np.concatenate([head, kept, tail]) if is_live(kept) else fixed(len(head) + len(kept) + len(tail))
    op.lengths(1 if op.has(1) else "pads", counts)
    padded = {k % len(axes) for e, k in enumerate(over) if amounts[e] or amounts[e + len(over)]}
    if constant and not zeros:
        # A constant border is not zero, whatever was removed elsewhere.
        axes = [labels if k in padded else not_zero(labels) for k, labels in enumerate(axes)]
    return [axes]


@rule("Expand", traits=_MOVES)
def expand(op: Op) -> Result:
    target = op.ints(1)
    if target is None:
        raise Unsupported("its target shape is computed while the network runs")
    axes = op.axes(0)
    rank = max(len(axes), len(target))
    axes = [fixed(1)] * (rank - len(axes)) + axes
    wanted = [1] * (rank - len(target)) + list(target)
    counts: dict[int, Labels] = {}
    for k, n in enumerate(wanted):
        if len(axes[k]) == 1 and n != 1:
            op.pin(axes[k], "is repeated by broadcasting")
            axes[k] = not_zero(op.fresh(n))
        if n != 1 and k >= rank - len(target):
            counts[k - rank + len(target)] = axes[k]
    op.lengths(1, counts)
    return [axes]


@rule("Tile", traits=Trait.MOVES)
def tile(op: Op) -> Result:
    repeats = op.ints(1)
    if repeats is None:
        raise Unsupported("its repeats are not constant")
    return [[np.tile(labels, n) if is_live(labels) else fixed(len(labels) * n)
             for labels, n in zip(op.axes(0), repeats, strict=True)]]  # fmt: skip


@rule("ConstantOfShape")
def constant_of_shape(op: Op) -> Result:
    """A constant too large to be computed here: channels that can be left out, by counting them in the shape."""
    target = op.ints(0)
    if target is None:
        raise Unsupported("its shape is computed while the network runs")
    axes = op.filled(target)
    op.lengths(0, dict(enumerate(axes)))
    return [axes]


@rule("DepthToSpace", traits=Trait.MOVES)
def depth_to_space(op: Op) -> Result:
    """[N, b*b*C', H, W] (DCR) or [N, C'*b*b, H, W] (CRD) to [N, C', H*b, W*b]: b*b copies of a channel are equal."""
    n, c, h, w = op.axes(0)
    b = int(op.attr("blocksize"))
    depth_first = op.attr("mode", b"DCR") in (b"DCR", "DCR")
    grid = c.reshape(b * b, -1) if depth_first else c.reshape(-1, b * b).T
    for row in grid[1:]:
        op.same(grid[0], row)
    for labels in (h, w):
        op.pin(labels, "is a spatial axis that would be interleaved")
    zero = (grid > 0).all(axis=0)
    return [[n, np.where(zero, np.abs(grid[0]), -np.abs(grid[0])), fixed(len(h) * b), fixed(len(w) * b)]]


@rule("SpaceToDepth", traits=Trait.MOVES)
def space_to_depth(op: Op) -> Result:
    """[N, C, H, W] to [N, b*b*C, H/b, W/b]."""
    n, c, h, w = op.axes(0)
    b = int(op.attr("blocksize"))
    for labels in (h, w):
        op.pin(labels, "is a spatial axis that would be cut")
    return [[n, np.tile(c, b * b), fixed(len(h) // b), fixed(len(w) // b)]]
