"""Files that were damaged on their way, or that a bad exporter wrote."""

from __future__ import annotations

import random

import onnx

#: What makes the most trouble as a size, a count, an axis or a position.
SIZES = (0, -1, 1, 2, 3, 7, 100, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, -(2**63))
_OPERATORS = "Tile Pad Expand Range Reshape Transpose Gather Slice Concat Split LSTM If Loop Identity".split()


def damaged(content: bytes, seed: int) -> bytes:
    """An ONNX file with a few bytes flipped, lost or repeated, cut off, or with something in it that makes no sense."""
    r = random.Random(seed)
    if r.randrange(3) == 0:
        return _bytes(content, r)
    model = onnx.ModelProto.FromString(content)
    for _ in range(r.choice([1, 1, 2])):
        if model.graph.node:
            r.choice([_attribute, _attribute, _constant, _wiring, _operator, _shape, _nodes])(model, r)
    return model.SerializeToString()


def _bytes(content: bytes, r: random.Random) -> bytes:
    data = bytearray(content)
    kind = r.randrange(5)
    if kind == 0:
        return bytes(data[: r.randrange(len(data))])
    for _ in range(r.choice([1, 1, 1, 2, 4])):
        at, long = r.randrange(len(data)), r.randrange(1, 30)
        if kind == 1:
            data[at] ^= 1 << r.randrange(8)
        elif kind == 2:
            data[at] = r.choice([0, 1, 127, 128, 255])
        elif kind == 3:
            del data[at : at + long]
        else:
            data[at:at] = data[at : at + long]
    return bytes(data)


def _attribute(model: onnx.ModelProto, r: random.Random) -> None:
    node = r.choice(model.graph.node)
    if not node.attribute:
        return
    attribute = r.choice(node.attribute)
    if r.random() < 0.2:
        node.attribute.remove(attribute)
    elif attribute.ints:
        attribute.ints[r.randrange(len(attribute.ints))] = r.choice(SIZES)
    elif attribute.HasField("i"):
        attribute.i = r.choice(SIZES)
    elif attribute.HasField("s"):
        attribute.s = r.choice([b"", b"VALID", b"SAME_UPPER", b"reverse", b"\xff\xfe", b"bogus"])
    elif attribute.HasField("f"):
        attribute.f = r.choice([0, -1, float("nan"), 1e30])


def _constant(model: onnx.ModelProto, r: random.Random) -> None:
    if not model.graph.initializer:
        return
    tensor = r.choice(model.graph.initializer)
    if tensor.data_type == onnx.TensorProto.INT64 and tensor.raw_data:
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[r.randrange(array.size)] = r.choice(SIZES)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    elif tensor.dims:
        tensor.dims[r.randrange(len(tensor.dims))] = r.choice(SIZES)


def _wiring(model: onnx.ModelProto, r: random.Random) -> None:
    graph, node = model.graph, r.choice(model.graph.node)
    names = ["", *(t.name for t in graph.initializer), *(name for n in graph.node for name in n.output)]
    if node.input and r.random() < 0.7:
        node.input[r.randrange(len(node.input))] = r.choice(names)
    elif node.input:
        del node.input[-1]


def _operator(model: onnx.ModelProto, r: random.Random) -> None:
    r.choice(model.graph.node).op_type = r.choice([*(n.op_type for n in model.graph.node), *_OPERATORS])


def _shape(model: onnx.ModelProto, r: random.Random) -> None:
    graph = model.graph
    value = r.choice([*graph.input, *graph.value_info, *graph.output])
    if dims := value.type.tensor_type.shape.dim:
        r.choice(dims).dim_value = r.choice(SIZES)


def _nodes(model: onnx.ModelProto, r: random.Random) -> None:
    node = r.choice(model.graph.node)
    kind = r.randrange(4)
    if kind == 0:
        model.graph.node.remove(node)
    elif kind == 1:
        model.graph.node.append(node)
    elif kind == 2:
        model.graph.name = ""
    else:
        model.opset_import[0].version = r.choice([0, 9, 13, 18, 1000, -1])
