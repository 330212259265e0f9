"""Random small networks, put together from blocks that between them use every family of rules."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from slimnet.graph.net import Net
from tests.networks.graphs import net

Block = Callable[["Sketch", random.Random], None]
IMAGE: dict[str, Block] = {}
TOKENS: dict[str, Block] = {}


class Sketch:
    """A network under construction: its current value is an image [N, width, 4, 4] or tokens [N, 16, width].

    `style` decides how weights are held and how shapes are written, `noise` what is put in between to no effect.
    """

    def __init__(self, style: int = 0, noise: int = 0) -> None:
        self.lines: list[str] = []
        self.weights: list[str] = []
        self.values: dict[str, object] = {}
        self.style = random.Random(style)
        self.noise = random.Random(noise) if noise else None
        self.disturbed = 0
        self.x, self.width, self.image = "x", 3, True
        self.history: list[tuple[str, int, bool]] = []

    def op(self, text: str, outputs: int = 1) -> str:
        """Add a node; its outputs are called after its place in the network."""
        names = [f"v{len(self.lines)}_{k}" for k in range(outputs)]
        self.lines.append(f"{', '.join(names)} = {text}")
        return names[0] if outputs == 1 else " ".join(names)

    def weight(self, *shape: int, kind: str = "w") -> str:
        name = f"{kind}{len(self.weights)}"
        self.weights.append(f"float[{','.join(map(str, shape))}] {name}")
        return name

    def held(self, *shape: int) -> str:
        """A weight as it is, or behind nodes that bring it into shape."""
        way = self.style.randrange(6)
        if way == 1:
            turned = self.weight(*shape[::-1])
            return self.op(f"Transpose({turned})")
        if way == 2:
            flat = self.weight(shape[0], math.prod(shape[1:]))
            return self.op(f"Reshape({flat}, {self.ints(*shape)})")
        if way == 3:
            name = f"q{len(self.weights)}"
            self.weights.append(f"int8[{','.join(map(str, shape))}] {name}")
            axis, zero = self.style.randrange(2), f"z{len(self.weights)}"
            self.weights.append(f"int8[{shape[axis]}] {zero}")
            return self.op(f"DequantizeLinear<axis={axis}>({name}, {self.weight(shape[axis], kind='scale')}, {zero})")
        if way == 4:
            return self.op(f"Mul({self.weight(*shape)}, {self.weight(shape[0], *(1 for _ in shape[1:]))})")
        return self.weight(*shape)

    def ints(self, *values: int) -> str:
        name = f"i{len(self.weights)}"
        self.weights.append(f"int64[{len(values)}] {name}")
        self.values[name] = list(values)
        return name

    def code(self, value: int) -> str:
        """A number that stands for another one."""
        name = f"c{len(self.weights)}"
        self.weights.append(f"uint8 {name}")
        self.values[name] = value
        return name

    def goes_on(self, x: str, width: int | None = None) -> None:
        self.x = x
        self.width = self.width if width is None else width
        self.history.append((self.x, self.width, self.image))

    def conv(self, width: int, x: str | None = None, channels: int | None = None) -> str:
        return self.op(f"Conv({x or self.x}, {self.held(width, channels or self.width, 1, 1)})")

    def linear(self, width: int, x: str | None = None, channels: int | None = None) -> str:
        return self.op(f"MatMul({x or self.x}, {self.held(channels or self.width, width)})")

    def project(self, width: int) -> str:
        return self.conv(width) if self.image else self.linear(width)

    def vector(self, kind: str = "w") -> str:
        """A weight with one number per channel, shaped to be broadcast."""
        return self.weight(*((self.width, 1, 1) if self.image else (self.width,)), kind=kind)

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape to a constant target (0: the batch), or to one computed from the shape of the input."""
        if shape[0] != 0 or self.style.random() < 0.5:
            return self.op(f"Reshape({x}, {self.ints(*shape)})")
        batch = self.op(f"Slice({self.op(f'Shape({x})')}, {self.ints(0)}, {self.ints(1)})")
        rest = [self.op(f"Slice({self.op(f'Shape({x})')}, {self.ints(k)}, {self.ints(k + 1)})") if n == 0 and k
                else self.ints(n) for k, n in enumerate(shape)]  # fmt: skip
        return self.op(f"Reshape({x}, {self.op(f'Concat<axis=0>({batch}, ' + ', '.join(rest[1:]) + ')')})")

    @property
    def axis(self) -> int:
        return 1 if self.image else 2

    def disturb(self) -> None:
        """Add nodes that change nothing, without changing the names of the others."""
        if self.noise is None:
            return
        kind = self.noise.randrange(3)
        self.disturbed += 1
        a, b = f"a{self.disturbed}", f"b{self.disturbed}"
        perm = [0, 2, 3, 1] if self.image else [2, 0, 1]
        back = [perm.index(k) for k in range(len(perm))]
        if kind == 0:
            self.lines[-1] += f"\n{a} = Identity({self.x})"
            self.x = a
        elif kind == 1:
            self.lines[-1] += f"\n{a} = Transpose<perm={perm}>({self.x})\n{b} = Transpose<perm={back}>({a})"
            self.x = b

    def net(self, seed: int = 0, opset: int = 20) -> Net:
        weights = ", ".join(self.weights)
        body = "\n".join(self.lines)
        return net(f"(float[N,3,4,4] x) => (y) <{weights}> {{ {body} }}", opset, seed=seed, **self.values)


def sketch(steps: Sequence[tuple[str, int]], style: int = 0, noise: int = 0) -> Net:
    """A network of the named blocks, each with its own random seed."""
    s = Sketch(style, noise)
    s.goes_on(s.conv(6), 6)
    for name, seed in steps:
        ((IMAGE if s.image else TOKENS) | CODED).get(name, _nothing)(s, random.Random(seed))
        s.disturb()
    if s.image and len(steps) % 2:
        flat = s.op(f"Flatten({s.x})")
        last = s.linear(2, flat, s.width * 16)
    else:
        last = s.project(2)
    s.lines.append(f"y = Identity({last})")
    return s.net()


def with_zeros(net: Net, seed: int, share: float) -> Net:
    """The network with random slices of its float weights, along random axes, set to zero."""
    random = np.random.default_rng(seed)
    model = net.model.clone()
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or "var" in name:
            continue
        array = np.array(tensor.numpy())
        for axis in range(min(array.ndim, 2)):
            gone = random.random(array.shape[axis]) < share
            array[(slice(None),) * axis + (gone,)] = 0
        value.const_value = ir.Tensor(array, name=name)
    return replace(net, model=model)


def _nothing(s: Sketch, r: random.Random) -> None:
    """A block for images where there are tokens, or the other way round."""


def _image(block: Block) -> Block:
    IMAGE[block.__name__] = block
    return block


def _tokens(block: Block) -> Block:
    TOKENS[block.__name__] = block
    return block


def _both(block: Block) -> Block:
    return _image(_tokens(block))


# -- elementwise -----------------------------------------------------------------------------------------------------


@_both
def activation(s: Sketch, r: random.Random) -> None:
    s.goes_on(s.op(r.choice(["Relu", "Sigmoid", "Tanh", "Gelu", "HardSwish", "Softplus", "Neg", "Elu"]) + f"({s.x})"))


@_both
def affine(s: Sketch, r: random.Random) -> None:
    op, kind = r.choice([("Add", "w"), ("Mul", "w"), ("Div", "var"), ("PRelu", "w"), ("Max", "w"), ("Sub", "w")])
    s.goes_on(s.op(f"{op}({s.x}, {s.vector(kind)})"))


@_both
def residual(s: Sketch, r: random.Random) -> None:
    width = r.choice([4, 6])
    inner = s.op(f"Relu({s.project(width)})")
    back = s.conv(s.width, inner, width) if s.image else s.linear(s.width, inner, width)
    s.goes_on(s.op(f"{r.choice(['Add', 'Mul', 'Max', 'Sub'])}({s.x}, {back})"))


@_both
def skip(s: Sketch, r: random.Random) -> None:
    """Something from before comes back."""
    x, width, _ = r.choice([h for h in s.history if h[2] == s.image] or [(s.x, s.width, s.image)])
    if width == s.width and r.random() < 0.7:
        s.goes_on(s.op(f"{r.choice(['Add', 'Mul', 'Min'])}({s.x}, {x})"))
    elif width + s.width <= 12:
        s.goes_on(s.op(f"Concat<axis={s.axis}>({s.x}, {x})"), s.width + width)


@_both
def gate(s: Sketch, r: random.Random) -> None:
    other = s.op(f"Sigmoid({s.project(s.width)})")
    if r.random() < 0.5:
        s.goes_on(s.op(f"Mul({s.x}, {other})"))
    else:
        less = s.op(f"Less({s.x}, {other})")
        s.goes_on(s.op(f"Where({less}, {s.x}, {other})"))


@_both
def summed_gate(s: Sketch, r: random.Random) -> None:
    """Something reduced over the channels scales them all."""
    op = r.choice(["ReduceSum", "ReduceL2", "ReduceSumSquare", "ReduceMean", "ReduceMax"])
    total = s.op(f"{op}({s.x}, {s.ints(s.axis)})")
    s.goes_on(s.op(f"Mul({s.x}, {s.op(f'Tanh({total})')})"))


# -- linear ----------------------------------------------------------------------------------------------------------


@_both
def projection(s: Sketch, r: random.Random) -> None:
    width = r.choice([4, 5, 6, 8])
    s.goes_on(s.project(width), width)


@_image
def convolution(s: Sketch, r: random.Random) -> None:
    width, group = r.choice([4, 6, 8]), r.choice([1, 2])
    if s.width % group:
        return
    w, b = s.weight(width, s.width // group, 3, 3), s.weight(width)
    s.goes_on(s.op(f"Conv<pads=[1,1,1,1], group={group}>({s.x}, {w}, {b})"), width)


@_image
def depthwise(s: Sketch, r: random.Random) -> None:
    width = s.width * r.choice([1, 2]) if s.width <= 6 else s.width
    w = s.weight(width, 1, 3, 3)
    s.goes_on(s.op(f"Conv<pads=[1,1,1,1], group={s.width}>({s.x}, {w}, {s.weight(width)})"), width)


@_image
def deconvolution(s: Sketch, r: random.Random) -> None:
    group = r.choice([1, 2])
    if s.width % group:
        return
    per_group = r.choice([2, 3])
    w = s.weight(s.width, per_group, 3, 3)
    s.goes_on(s.op(f"ConvTranspose<pads=[1,1,1,1], group={group}>({s.x}, {w})"), group * per_group)


@_tokens
def einsum(s: Sketch, r: random.Random) -> None:
    heads, dims = r.choice([(2, 3), (3, 2)])
    h = s.op(f'Einsum<equation="btc,chd->bthd">({s.x}, {s.weight(s.width, heads, dims)})')
    s.goes_on(s.op(f'Einsum<equation="bthd,hdc->btc">({h}, {s.weight(heads, dims, 4)})'), 4)


@_tokens
def attention(s: Sketch, r: random.Random) -> None:
    heads, dims, fused = *r.choice([(2, 3), (3, 2)]), r.random() < 0.5
    width = heads * dims
    if fused:
        h = s.op(f"Transpose<perm=[2,0,3,1,4]>({s.reshape(s.linear(3 * width), 0, 16, 3, heads, dims)})")
        q, k, v = s.op(f"Split<axis=0, num_outputs=3>({h})", 3).split()
        q, k, v = (s.op(f"Squeeze({part}, {s.ints(0)})") for part in (q, k, v))
    else:
        parts = [s.reshape(s.linear(width), 0, 16, heads, dims) for _ in range(3)]
        q, k, v = (s.op(f"Transpose<perm=[0,2,1,3]>({part})") for part in parts)
    squash = r.choice(["Softmax", "Sigmoid", "Relu"])
    scores = s.op(f"{squash}({s.op(f'MatMul({q}, ' + s.op(f'Transpose<perm=[0,1,3,2]>({k})') + ')')})")
    mixed = s.op(f"Transpose<perm=[0,2,1,3]>({s.op(f'MatMul({scores}, {v})')})")
    s.goes_on(s.reshape(mixed, 0, 16, -1), width)


@_tokens
def activations_multiplied(s: Sketch, r: random.Random) -> None:
    """A kernel between tokens; exact only if one side becomes zero."""
    a = s.op(f"{r.choice(['Relu', 'Sigmoid'])}({s.linear(5)})")
    b = s.op(f"{r.choice(['Relu', 'Sigmoid'])}({s.linear(5)})")
    kernel = s.op(f"MatMul({a}, {s.op(f'Transpose<perm=[0,2,1]>({b})')})")
    s.goes_on(s.op(f"MatMul({s.op(f'Softmax({kernel})')}, {s.x})"))


@_tokens
def channels_multiplied(s: Sketch, r: random.Random) -> None:
    """Attention among the channels: the product of the tokens' features with themselves."""
    kernel = s.op(f"MatMul({s.op(f'Transpose<perm=[0,2,1]>({s.x})')}, {s.x})")
    squashed = s.op(f"{r.choice(['Softmax', 'Tanh', 'Sigmoid'])}({kernel})")
    s.goes_on(s.op(f"MatMul({s.x}, {squashed})"))


@_image
def rows_mixed(s: Sketch, r: random.Random) -> None:
    """Channels and rows as one axis, mixed by a weight on the left."""
    h = s.reshape(s.x, 0, s.width * 4, 4)
    width = r.choice([2, 3])
    mixed = s.op(f"MatMul({s.weight(width * 4, s.width * 4)}, {h})")
    s.goes_on(s.reshape(mixed, 0, width, 4, 4), width)


@_image
def regrouped(s: Sketch, r: random.Random) -> None:
    """Cells read in another order, across the borders of the channels."""
    h = s.reshape(s.x, 0, 4, s.width, 4)
    h = s.op(f"Transpose<perm={r.choice([[0, 2, 1, 3], [0, 2, 3, 1], [0, 1, 2, 3]])}>({h})")
    s.goes_on(s.reshape(h, 0, s.width, 4, 4))


@_tokens
def recurrent(s: Sketch, r: random.Random) -> None:
    kind, gates = r.choice([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    hidden, directions = 3, r.choice([1, 2])
    w, back = s.weight(directions, gates * hidden, s.width), s.weight(directions, gates * hidden, hidden)
    bias = s.weight(directions, 2 * gates * hidden)
    way = "bidirectional" if directions == 2 else "reverse"
    t = s.op(f"Transpose<perm=[1,0,2]>({s.x})")
    y = s.op(f'{kind}<hidden_size={hidden}, direction="{way}">({t}, {w}, {back}, {bias})')
    y = s.op(f"Transpose<perm=[2,0,1,3]>({y})")
    s.goes_on(s.reshape(y, 0, 16, directions * hidden), directions * hidden)


# -- norms -----------------------------------------------------------------------------------------------------------


@_image
def batch_norm(s: Sketch, r: random.Random) -> None:
    vectors = [s.weight(s.width, kind=kind) for kind in ("scale", "w", "w", "var")]
    s.goes_on(s.op(f"BatchNormalization({s.x}, {', '.join(vectors)})"))


@_image
def instance_norm(s: Sketch, r: random.Random) -> None:
    s.goes_on(s.op(f"InstanceNormalization({s.x}, {s.weight(s.width)}, {s.weight(s.width)})"))


@_image
def group_norm(s: Sketch, r: random.Random) -> None:
    groups = 2
    if s.width % groups:
        return
    h = s.reshape(s.x, 0, groups, -1)
    h = s.op(f"InstanceNormalization({h}, {s.weight(groups)}, {s.weight(groups)})")
    s.goes_on(s.op(f"Mul({s.reshape(h, 0, s.width, 4, 4)}, {s.vector()})"))


@_tokens
def layer_norm(s: Sketch, r: random.Random) -> None:
    s.goes_on(s.op(f"LayerNormalization({s.x}, {s.weight(s.width)}, {s.weight(s.width)})"))


# -- shape -----------------------------------------------------------------------------------------------------------


@_both
def concat(s: Sketch, r: random.Random) -> None:
    if s.width > 8:
        return
    width = r.choice([2, 3])
    parts = [s.x, s.project(width)]
    s.goes_on(s.op(f"Concat<axis={s.axis}>({', '.join(r.sample(parts, 2))})"), s.width + width)


@_both
def halves(s: Sketch, r: random.Random) -> None:
    if s.width % 2:
        return
    half = s.width // 2
    if r.random() < 0.5:
        a, b = s.op(f"Split<axis={s.axis}, num_outputs=2>({s.x})", 2).split()
    else:
        a = s.op(f"Slice({s.x}, {s.ints(0)}, {s.ints(half)}, {s.ints(s.axis)})")
        b = s.op(f"Slice({s.x}, {s.ints(-half)}, {s.ints(99)}, {s.ints(s.axis)})")
    if r.random() < 0.5:
        s.goes_on(s.op(f"Mul({a}, {s.op(f'Sigmoid({b})')})"), half)
    else:
        s.goes_on(s.op(f"Concat<axis={s.axis}>({b}, {a})"))


@_both
def picked(s: Sketch, r: random.Random) -> None:
    index = [r.randrange(-s.width, s.width) for _ in range(r.choice([3, 4, 6]))]
    s.goes_on(s.op(f"Gather<axis={s.axis}>({s.x}, {s.ints(*index)})"), len(index))


@_both
def sliced(s: Sketch, r: random.Random) -> None:
    start, end, step = r.choice([(1, 99, 1), (0, -1, 1), (0, 99, 2), (-1, -99, -1), (-3, 99, 1)])
    width = len(range(s.width)[start:end:step])
    if width < 2:
        return
    bounds = ", ".join(s.ints(n) for n in (start, end, s.axis, step))
    s.goes_on(s.op(f"Slice({s.x}, {bounds})"), width)


@_both
def padded(s: Sketch, r: random.Random) -> None:
    if s.width > 8:
        return
    before, after = r.choice([(0, 2), (1, 1), (2, 0)])
    s.goes_on(s.op(f"Pad({s.x}, {s.ints(before, after)}, , {s.ints(s.axis)})"), s.width + before + after)


@_both
def tiled(s: Sketch, r: random.Random) -> None:
    if s.width > 6:
        return
    repeats = [2 if k == s.axis else 1 for k in range(4 if s.image else 3)]
    s.goes_on(s.op(f"Tile({s.x}, {s.ints(*repeats)})"), 2 * s.width)


@_image
def shuffled(s: Sketch, r: random.Random) -> None:
    groups = r.choice([2, 3])
    if s.width % groups:
        return
    h = s.reshape(s.x, 0, groups, s.width // groups, 4, 4)
    h = s.op(f"Transpose<perm=[0,2,1,3,4]>({h})")
    s.goes_on(s.reshape(h, 0, -1, 4, 4))


@_image
def squeeze_and_excite(s: Sketch, r: random.Random) -> None:
    pooled = s.op(f"GlobalAveragePool({s.x})")
    inner = s.op(f"Relu({s.conv(3, pooled)})")
    s.goes_on(s.op(f"Mul({s.x}, {s.op(f'HardSigmoid({s.conv(s.width, inner, 3)})')})"))


@_image
def pixel_shuffle(s: Sketch, r: random.Random) -> None:
    if s.width % 4:
        return
    mode = r.choice(["DCR", "CRD"])
    up = s.op(f'DepthToSpace<blocksize=2, mode="{mode}">({s.x})')
    if r.random() < 0.5:
        s.goes_on(s.op(f"AveragePool<kernel_shape=[2,2], strides=[2,2]>({up})"), s.width // 4)
    else:
        s.goes_on(s.op(f"SpaceToDepth<blocksize=2>({up})"))


@_image
def pooled(s: Sketch, r: random.Random) -> None:
    kind = r.choice(["MaxPool", "AveragePool"])
    small = s.op(f"{kind}<kernel_shape=[2,2], strides=[2,2]>({s.x})")
    s.goes_on(s.op(f'Resize<mode="nearest">({small}, , , {s.ints(2, s.width, 4, 4)})'))


@_image
def to_tokens(s: Sketch, r: random.Random) -> None:
    tokens = s.op(f"Transpose<perm=[0,2,1]>({s.reshape(s.x, 0, 0, -1)})")
    s.image = False
    s.goes_on(tokens)


@_tokens
def to_image(s: Sketch, r: random.Random) -> None:
    image = s.reshape(s.op(f"Transpose<perm=[0,2,1]>({s.x})"), 0, s.width, 4, 4)
    s.image = True
    s.goes_on(image)


@_tokens
def windows(s: Sketch, r: random.Random) -> None:
    h = s.reshape(s.x, -1, 2, 2, 2, 2, s.width)
    h = s.op(f"Transpose<perm=[0,1,3,2,4,5]>({h})")
    if r.random() < 0.5:
        s.goes_on(s.reshape(h, -1, 16, s.width))
    else:
        merged = s.linear(4, s.reshape(h, -1, 4, 4 * s.width), 4 * s.width)
        s.goes_on(s.op(f"Tile({merged}, {s.ints(1, 4, 1)})"), 4)


@_tokens
def class_token(s: Sketch, r: random.Random) -> None:
    first = s.op(f"Expand({s.weight(1, 1, s.width)}, {s.ints(2, 1, 1)})")
    rest = s.op(f"Slice({s.x}, {s.ints(1)}, {s.ints(99)}, {s.ints(1)})")
    s.goes_on(s.op(f"Concat<axis=1>({first}, {rest})"))


# -- subgraphs and quantised activations -----------------------------------------------------------------------------


@_both
def chosen(s: Sketch, r: random.Random) -> None:
    """A branch that the values decide over; both read what is outside."""
    total = s.op(f"ReduceSum<keepdims=0>({s.x})")
    zero = s.op("Constant<value_float=0.0>()")
    positive = s.op(f"Greater({total}, {zero})")
    k = len(s.lines)
    branches = [f"b{k}_{n} () => (o{k}_{n}) {{ o{k}_{n} = {op}({s.x}) }}" for n, op in enumerate(("Relu", "Tanh"))]
    s.goes_on(s.op(f"If({positive})<then_branch={branches[0]}, else_branch={branches[1]}>"))


def requantised(s: Sketch, r: random.Random) -> None:
    """Codes of numbers, around a zero point, on which something may work as it is."""
    scale, zero = s.op("Constant<value_float=0.05>()"), s.code(r.choice([0, 100, 128]))
    codes = s.op(f"QuantizeLinear({s.x}, {scale}, {zero})")
    if s.image and r.random() < 0.5:
        codes = s.op(f"MaxPool<kernel_shape=[1,1]>({codes})")
    s.goes_on(s.op(f"DequantizeLinear({codes}, {scale}, {zero})"))


def quantised_layer(s: Sketch, r: random.Random) -> None:
    """A convolution or product of codes."""
    width = r.choice([4, 6])
    scale, zero, out = s.op("Constant<value_float=0.05>()"), s.code(128), s.code(r.choice([0, 128]))
    codes, w = s.op(f"QuantizeLinear({s.x}, {scale}, {zero})"), f"q{len(s.weights)}"
    s.weights.append(f"uint8[{width},{s.width},1,1] {w}" if s.image else f"uint8[{s.width},{width}] {w}")
    kind = "QLinearConv" if s.image else "QLinearMatMul"
    y = s.op(f"{kind}({codes}, {scale}, {zero}, {w}, {scale}, {s.code(2)}, {scale}, {out})")
    s.goes_on(s.op(f"DequantizeLinear({y}, {scale}, {out})"), width)


#: Blocks in which the rounding of one number may move another by a whole step: two runs are alike only most often.
CODED: dict[str, Block] = {block.__name__: block for block in (requantised, quantised_layer)}
