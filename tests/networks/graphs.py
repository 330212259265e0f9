"""Tiny networks from a few lines of ONNX text, and the check that every rule has to pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import parser, shape_inference

from slimnet.graph.net import Net
from slimnet.graph.parameters import Role
from slimnet.graph.surgery import mask, slim
from slimnet.graph.trace import trace
from slimnet.graph.units import Trace
from slimnet.runtime.feeds import index_bounds, random_inputs
from slimnet.runtime.onnxruntime import OnnxRuntime

Feeds = Mapping[str, npt.NDArray[Any]]


def net(text: str, opset: int = 20, n: int = 2, **options: Any) -> Net:
    """A network from text, see `from_text`; symbolic input sizes are traced as `n`."""
    model = from_text(text, opset, **options)
    inputs = {v.name: tuple(d if isinstance(d, int) else n for d in v.shape) for v in model.graph.inputs}
    return Net(model, "net", inputs)


def from_text(
    text: str,
    opset: int = 20,
    annotate: bool = True,
    seed: int = 0,
    domains: Sequence[str] = ("own", "com.microsoft"),
    **weights: Any,
) -> ir.Model:
    """A model from onnx.parser's syntax.

    Values that are declared between the signature and the body and that nothing computes become weights: those given
    as keywords, else random ones (positive, where the name says var or scale). With `annotate`, all values state the
    shapes that onnx infers. `domains` are imported in version 1.
    """
    imports = ", ".join(
        f'"{domain}": {version}' for domain, version in {"": opset, **dict.fromkeys(domains, 1)}.items()
    )
    header = f"<ir_version: {8 if opset < 19 else 10}, opset_import: [{imports}]>"
    proto = parser.parse_model(f"{header} g {text}")
    inferred = shape_inference.infer_shapes(proto, data_prop=True)
    if annotate:
        proto = inferred
    else:
        del proto.graph.output[:]
        proto.graph.output.extend(inferred.graph.output)
    made = {name for node in proto.graph.node for name in node.output}
    rng = np.random.default_rng(seed)
    infos = {v.name: v for v in proto.graph.value_info if v.name not in made}
    for name, info in infos.items():
        proto.graph.initializer.append(_weight(name, info.type.tensor_type, weights.pop(name, None), rng))
    assert not weights, f"no declared value is called {', '.join(weights)}"
    for k in range(len(proto.graph.value_info) - 1, -1, -1):
        if proto.graph.value_info[k].name in infos or not annotate:
            del proto.graph.value_info[k]
    return ir.from_proto(proto)


def _weight(name: str, kind: Any, value: Any, rng: np.random.Generator) -> onnx.TensorProto:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape = tuple(d.dim_value for d in kind.shape.dim)
    if value is None and np.issubdtype(dtype, np.integer):
        value = rng.integers(0, 5, shape)
    elif value is None and ("var" in name or "scale" in name):
        value = rng.uniform(0.5, 1.5, shape)
    elif value is None:
        value = rng.standard_normal(shape)
    return onnx.numpy_helper.from_array(np.broadcast_to(value, shape).astype(dtype), name)


def units(trace: Trace) -> dict[str, int]:
    """Which tensor axes go together, and how many units do: {"w:0 b:0 v:1": 8}.

    An axis of which several indices belong to each unit is written with their number: "fc:1x16".
    """
    found: Counter[str] = Counter()
    for group in trace.groups:
        counts = [(f"{m.tensor}:{m.axis}", m.index.shape[1]) for m in group.members]
        found[" ".join(f"{name}x{count}" if count > 1 else name for name, count in counts)] += len(group)
    return dict(found)


def pinned(trace: Trace) -> dict[str, str]:
    """Why an axis of a tensor is pinned, in whole or in part: {"w:0": "is an output of the network"}."""
    why: dict[str, str] = {}
    for pin in trace.pins:
        key = f"{pin.tensor}:{pin.axis}"
        why[key] = f"{why[key]}; {pin.why}" if key in why else pin.why
    return why


def draw(trace: Trace, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A random removal that leaves something of every group and of every axis."""
    removed = np.zeros(trace.n_units, bool)
    for group in trace.groups:
        if len(group) > 1:
            removed[rng.permutation(group.units)[: rng.integers(1, len(group))]] = True
    for axis in trace.axes:
        if (axis.units >= 0).all() and removed[axis.units].all():
            removed[rng.choice(axis.units)] = False
    return removed


def feeds(net: Net, seed: int = 0, bounds: Mapping[str, int] | None = None, **sizes: int) -> Feeds:
    """Random inputs, with other sizes for symbolic dimensions."""
    shapes = {}
    for value in net.model.graph.inputs:
        traced = net.inputs[value.name]
        shapes[value.name] = tuple(
            d if isinstance(d, int) else sizes.get(str(d.value), traced[k]) for k, d in enumerate(value.shape)
        )
    return random_inputs(net.model, shapes, seed, bounds)


def run(model: ir.Model, feed: Feeds) -> list[npt.NDArray[Any]]:
    return OnnxRuntime(threads=1).session(model, optimise=False).run(feed)


def exact(net: Net, plans: int = 3, allow_inexact: bool = False, prefer: str | None = None) -> Trace:
    """Trace a network and check that under random plans every value of slim is that of mask, cut.

    Also checked: the values that a rule calls zero are zero, slim is valid ONNX and states the shapes it has, the
    multiply-adds predicted are those of slim, a plan gives back its removal, and the outcome does not depend on
    whether the file states shapes.
    """
    found = trace(net, allow_inexact, prefer)
    assert units(trace(without_shapes(net), allow_inexact, prefer)) == units(found)
    bounds = index_bounds(found)
    for seed in range(plans):
        removed = draw(found, np.random.default_rng(seed))
        assert_same(found, removed, feeds(net, seed, bounds))
        assert np.array_equal(found.removed(found.plan(removed)), removed)
        left = trace(Net(slim(found, removed), net.name, net.inputs))
        assert sum(found.macs(removed).values()) == sum(left.macs().values())
    return found


def assert_same(trace: Trace, removed: npt.NDArray[np.bool_], feed: Feeds) -> None:
    """Check one removal."""
    thin, masked = slim(trace, removed), mask(trace, removed)
    assert_valid(thin, trace.net.model)
    names = [o.name for o in thin.graph.outputs]
    assert names == [o.name for o in masked.graph.outputs]
    want, got = run(masked, feed), run(thin, feed)
    for name, a, b in zip(names, want, got, strict=True):
        assert_close(name, a, b)
    taps = _taps(trace, thin, masked)
    if not taps:  # everything is inside of a node
        return
    want, got = run(_tapped(masked, taps), feed), run(_tapped(thin, taps), feed)
    for name, a, b in zip(taps, want, got, strict=True):
        _assert_cut(trace, removed, name, a, b)


def assert_same_at_other_sizes(net: Net, **sizes: int) -> None:
    """Slim equals mask at input sizes that the network was not traced with."""
    found = trace(net)
    removed = draw(found, np.random.default_rng(0))
    assert removed.any()
    feed = feeds(net, **sizes)
    for a, b in zip(run(mask(found, removed), feed), run(slim(found, removed), feed), strict=True):
        assert_close("output", a, b)


def assert_close(name: str, want: npt.NDArray[Any], got: npt.NDArray[Any]) -> None:
    assert want.shape == got.shape, f"{name}: {want.shape} in mask, {got.shape} in slim"
    tolerance = 1e-2 if want.dtype == np.float16 else 1e-4
    assert np.isfinite(want).all(), f"{name} is not finite in mask"
    error = np.abs(want.astype(float) - got.astype(float)).max(initial=0)
    assert error <= tolerance * np.abs(want.astype(float)).max(initial=0.01), f"{name} differs by {error:.2e}"


def assert_valid(model: ir.Model, dense: ir.Model) -> None:
    """onnx.checker accepts a model (as far as it accepts the dense one), and the shapes it states are those it has."""
    proto = ir.to_proto(model)
    for strict in (True, False):
        if _accepts(ir.to_proto(dense), strict):
            onnx.checker.check_model(proto, full_check=strict)
    stated = {v.name: _dims(v) for v in (*proto.graph.value_info, *proto.graph.output)}
    inferred = shape_inference.infer_shapes(_unannotated(proto), data_prop=True)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        says, follows = stated.get(value.name), _dims(value)
        if says is None or follows is None:
            continue
        assert len(says) == len(follows), f"{value.name} states {says}, but is {follows}"
        clash = [1 for a, b in zip(says, follows, strict=True) if isinstance(a, int) and isinstance(b, int) and a != b]
        assert not clash, f"{value.name} states {says}, but is {follows}"


def _accepts(proto: onnx.ModelProto, strict: bool) -> bool:
    """onnx.checker does not know custom operators, and has bugs of its own."""
    try:
        onnx.checker.check_model(proto, full_check=strict)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _dims(value: onnx.ValueInfoProto) -> list[int | str] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim]


def _unannotated(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.value_info[:]
    return copy


def without_shapes(net: Net) -> Net:
    """The same network in a file that states the shapes of its inputs and outputs only."""
    model = ir.from_proto(_unannotated(ir.to_proto(net.model)))
    return Net(model, net.name, net.inputs)


def _taps(trace: Trace, thin: ir.Model, masked: ir.Model) -> list[str]:
    """Names of the intermediate tensors that both models state the type of."""
    typed = [{v.name for n in m.graph for v in n.outputs if v.dtype and v.shape is not None} for m in (thin, masked)]
    known = {v.name: t for v, t in trace._graph.walk.values.items() if v.name in typed[0] & typed[1]}
    # Positions in all channels are others where channels are gone.
    return [name for name, t in known.items() if t.axes is not None and t.positions is None]


def _tapped(model: ir.Model, taps: list[str]) -> ir.Model:
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in taps)
    return copy


def _assert_cut(
    trace: Trace, removed: npt.NDArray[np.bool_], name: str, want: npt.NDArray[Any], got: npt.NDArray[Any]
) -> None:
    """One intermediate value: slim has what mask has at the kept indices, and zeros are where they are promised.

    What was followed inexactly is narrow in mask already, on the axes it was followed along.
    """
    traced = next(t for v, t in trace._graph.walk.values.items() if v.name == name)
    keep = trace._graph.kept(removed)
    wide = [(k, ids) for k, ids in enumerate(traced.axes) if len(ids) == want.shape[k]]
    for k, ids in wide:
        gone = ~keep[np.abs(ids)] & (ids > 0)
        if want.dtype.kind == "f" and not traced.parameter and gone.any():
            assert not want.compress(gone, k).any(), f"{name} should be zero where axis {k} is removed"
    for k, ids in wide:
        want = want.compress(keep[np.abs(ids)], k)
    assert_close(name, want, got)


def roles(trace: Trace, tensor: str) -> dict[int, Role]:
    """Role of each live axis of a tensor."""
    return {m.axis: m.role for g in trace.groups for m in g.members if m.tensor == tensor}


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give values other names, where graphs inside of the node read them too."""
    for given in (node.input, node.output):
        given[:] = [names.get(name, name) for name in given]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, names)


def branched(net: Net, cut: int) -> Net:
    """A network whose last nodes stand in both branches of an If, which a new input chooses; `cut` says how many."""
    proto = ir.to_proto(net.model)
    graph, first = proto.graph, cut % len(proto.graph.node)
    last = list(graph.node[first:])
    made = {name for node in last for name in node.output}
    outputs = [value for value in graph.output if value.name in made]
    branches = {}
    for branch in ("then", "else"):
        nodes = []
        for node in last:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = node.name and f"{node.name}_{branch}"
            _rename(copy, {name: f"{name}_{branch}" for name in made})
            nodes.append(copy)
        values = []
        for value in outputs:
            copy = onnx.ValueInfoProto()
            copy.CopyFrom(value)
            copy.name = f"{value.name}_{branch}"
            values.append(copy)
        branches[f"{branch}_branch"] = onnx.helper.make_graph(nodes, branch, [], values)
    del graph.node[first:]
    graph.node.append(onnx.helper.make_node("If", ["chosen"], [value.name for value in outputs], **branches))
    graph.input.append(onnx.helper.make_tensor_value_info("chosen", onnx.TensorProto.BOOL, []))
    kept = [value for value in graph.value_info if value.name not in made]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return Net(ir.from_proto(proto), net.name, {**net.inputs, "chosen": ()})
