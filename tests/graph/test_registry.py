"""The table of rules: by domain and version, with traits, and from distributions outside slimnet."""

import ast
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from slimnet.common.errors import BadInput
from slimnet.graph import registry, rules
from slimnet.graph.layers import is_layer
from slimnet.graph.net import Net
from slimnet.graph.registry import Trait, describe, entry_of, rule, traits_of
from slimnet.graph.surgery import mask, slim
from slimnet.graph.trace import trace
from tests.networks.graphs import Feeds, assert_close, draw, feeds, net, pinned, run, units

SOURCES = sorted((Path(__file__).parents[2] / "slimnet").rglob("*.py"))
#: Where operators are listed: their rules, those that walk through inner graphs, the sizes they ask for, and the
#: functions that compute them.
LISTS = ("graph/rules/", "graph/nested.py", "graph/fits.py", "graph/evaluate.py")
#: Names of sympy's classes, which some operators share.
SYMPY = {"Add", "Mul", "Pow", "Min", "Max", "Mod"}


@pytest.fixture(autouse=True)
def empty_table(monkeypatch):
    """Leave the table of rules as it was."""
    entry_of(ir.node("Relu", []))
    monkeypatch.setattr(registry, "_TABLE", {key: list(entries) for key, entries in registry._TABLE.items()})
    yield
    registry._load_all.cache_clear()
    registry._layers.cache_clear()


def node(op_type: str, domain: str = "", **opsets: int) -> ir.Node:
    """A node in a graph that imports these opsets: `com_acme` is "com.acme", `standard` is ""."""
    found = ir.Node(domain, op_type, [])
    imports = {k.replace("standard", "").replace("_", "."): v for k, v in opsets.items()}
    ir.Graph([], [], nodes=[found], opset_imports=imports)
    return found


# -- versions, domains, traits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opset", "expected"), [(1, "first"), (4, "first"), (5, "fifth"), (8, "fifth"), (9, "ninth")])
def test_of_several_rules_the_newest_not_above_the_opset_wins(opset, expected):
    rules = {}
    for name, since in (("fifth", 5), ("first", 1), ("ninth", 9)):
        rules[name] = rule("Twist", domain="com.acme", since=since)(lambda op: [None])
    assert entry_of(node("Twist", "com.acme", com_acme=opset)).rule is rules[expected]


def test_an_operator_that_is_newer_than_the_opset_has_no_rule():
    rule("Twist", domain="com.acme", since=3)(lambda op: [None])
    assert entry_of(node("Twist", "com.acme", com_acme=2)) is None
    assert traits_of(node("Twist", "com.acme", com_acme=2)) == Trait(0)


def test_domains_are_told_apart_and_the_standard_has_two_names():
    rule("Relu", domain="com.acme")(lambda op: [None])
    rule("Twist", domain="ai.onnx")(lambda op: [None])
    assert entry_of(node("Relu", "com.acme", com_acme=1)) is not entry_of(node("Relu", standard=20))
    assert entry_of(node("Relu", "com.other", com_other=1)) is None
    assert entry_of(node("Twist", standard=1)) is entry_of(node("Twist", "ai.onnx", ai_onnx=1)) is not None


def test_two_rules_of_one_operator_and_version_are_refused():
    with pytest.raises(ValueError, match="Relu has a rule since version 1 already"):
        rule("Relu")(lambda op: [None])


def test_traits_without_a_rule_leave_the_inputs_pinned():
    describe("Twist", domain="com.acme", traits=Trait.POINTWISE)
    text = "(float[2,3,4,4] x) => (float[2,6,4,4] y) <float[6,3,1,1] w> { h = Conv(x, w) y = com.acme.Twist(h) }"
    assert pinned(trace(net(text, domains=("com.acme",))))["w:0"] == "has no rule (domain com.acme)"


@pytest.mark.parametrize(
    ("name", "layer"),
    [("Conv", True), ("FusedConv", True), ("QLinearMatMul", True), ("DynamicQuantizeLSTM", True), ("Einsum", True),
     ("QAttention", True), ("Relu", False), ("BiasGelu", False), ("SkipLayerNormalization", False),
     ("ReorderOutput", False)],
)  # fmt: skip
def test_a_layer_is_recognised_under_the_names_of_the_runtime(name, layer):
    assert is_layer(name) == layer


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def strings(tree: ast.AST) -> list[list[str]]:
    """The strings of every collection, and the words or alternatives of every string."""
    found = []
    for part in ast.walk(tree):
        if isinstance(part, ast.Tuple | ast.List | ast.Set):
            found.append([e.value for e in part.elts if isinstance(e, ast.Constant)])
        elif isinstance(part, ast.Dict):
            found.append([k.value for k in part.keys if isinstance(k, ast.Constant)])
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            words = re.split(r"[\s|,]+", part.value)
            found.append(words if all(re.fullmatch("[A-Z][A-Za-z]+", word) for word in words) else [])
    return found


def test_no_list_of_operators_stands_outside_their_rules():
    operators = {schema.name for schema in onnx.defs.get_all_schemas()} - SYMPY
    outside = [path for path in SOURCES if not any(part in path.as_posix() for part in LISTS)]
    listed = [(path.name, operators.intersection(words)) for path in outside for words in strings(parsed(path))]
    assert len(outside) > 100
    assert [(name, names) for name, names in listed if len(names) > 1] == []


def test_the_look_for_lists_of_operators_sees_them():
    code = 'A = ("Conv", "Gemm")\nB = {"Conv": 1, "Gemm": 2}\nC = "Conv Gemm".split()\nD = re.compile("Conv|Gemm")'
    assert sum({"Conv", "Gemm"} <= set(words) for words in strings(ast.parse(code))) == 4


def test_a_rule_sees_only_its_context():
    """Rules ask `Op`; what stands behind it is none of their business."""
    files = [path for path in SOURCES if "graph/rules/" in path.as_posix()]
    seen = {"slimnet.graph.axes", "slimnet.graph.op", "slimnet.graph.parameters", "slimnet.graph.registry",
            "slimnet.graph.rules"}  # fmt: skip
    for path in files:
        for part in ast.walk(parsed(path)):
            if isinstance(part, ast.Attribute):
                assert "tracer" not in part.attr, f"{path}, line {part.lineno}"
                assert not part.attr.startswith("_") or part.attr.startswith("__"), f"{path}, line {part.lineno}"
            if isinstance(part, ast.ImportFrom) and part.module.startswith("slimnet"):
                assert part.module in seen or part.module.startswith("slimnet.graph.rules."), f"{path}: {part.module}"
    assert len(files) > 10


# -- rules of a distribution -----------------------------------------------------------------------------------------

#: The example in the documentation of the rules, which is a module of its own.
EXAMPLE = textwrap.dedent(
    rules.__doc__[rules.__doc__.index('    """acme_rules.py') : rules.__doc__.index("The entry point names")]
)
#: What its operator computes, in operators of the standard.
BODY = """<domain: "com.acme", opset_import: ["": 20]> ScaledRelu (x, s) => (y)
    { r = Relu(x) axes = Constant<value_ints=[1, 2]>() t = Unsqueeze(s, axes) y = Mul(r, t) }"""


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Puts a distribution with rules on the path, as pip would install it."""

    def install(code: str, target: str = "acme_rules") -> None:
        (tmp_path / "acme_rules.py").write_text(code)
        info = tmp_path / "acme_onnx-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-onnx\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[slimnet.rules]\nacme = {target}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        registry._load_all.cache_clear()

    yield install
    sys.modules.pop("acme_rules", None)


def scaled() -> Net:
    return net("""(float[2,3,4,4] x) => (float[2,5,4,4] y) <float[8,3,1,1] w, float[8] s, float[5,8,1,1] v>
        { h = Conv(x, w)
          r = com.acme.ScaledRelu(h, s)
          y = Conv(r, v) }""", domains=("com.acme",))  # fmt: skip


def outputs(model: ir.Model, feed: Feeds) -> list[np.ndarray]:
    """What a model computes, given a body for the foreign operator."""
    proto = ir.to_proto(model)
    proto.functions.append(onnx.parser.parse_function(BODY))
    return run(ir.from_proto(proto), feed)


def test_a_distribution_brings_rules_for_its_own_operators(distribution):
    assert pinned(trace(scaled()))["w:0"] == "has no rule (domain com.acme)"
    distribution(EXAMPLE)
    found = trace(scaled())
    assert units(found) == {"w:0 s:0 v:1": 8}
    removed = draw(found, np.random.default_rng(0))
    assert removed.any()
    feed = feeds(found.net)
    (want,), (got,) = (outputs(make(found, removed), feed) for make in (mask, slim))
    assert_close("y", want, got)


def test_an_entry_point_may_name_a_function_that_registers(distribution):
    distribution(f"def register():\n{textwrap.indent(EXAMPLE, '    ')}", "acme_rules:register")
    assert units(trace(scaled())) == {"w:0 s:0 v:1": 8}


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import acme_core", "ModuleNotFoundError: No module named 'acme_core'"),
     ("from slimnet.graph.rules import rule\nrule('Relu')(None)", "ValueError: Relu has a rule since version 1 already"),
     ("from slimnet.graph.rules import rule\nrule('New')(None)\nraise RuntimeError", "RuntimeError")],
)  # fmt: skip
def test_rules_that_cannot_be_loaded_name_their_distribution(distribution, code, reason):
    distribution(code)
    for _ in range(2):  # the second time it says the same: nothing of the first attempt is left
        with pytest.raises(BadInput) as caught:
            trace(scaled())
        assert str(caught.value) == (
            f"rules for operators: acme_rules of acme-onnx cannot be loaded ({reason}); repair or uninstall it"
        )
    assert ("", "New") not in registry._TABLE
