"""Small changes to Python source that should make a test fail, each as a whole changed source.

Left alone is what no test of behaviour can or should notice: annotations, decorators, docstrings, the words of errors
and other f-strings, type-checking imports, and the keywords in `QUIET`.
"""

from __future__ import annotations

import ast
import builtins
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

SWAPPED = {"min": "max", "any": "all", "minimum": "maximum", "argmin": "argmax", "floor": "ceil", "zeros": "ones",
           "low": "high", "before": "after", "first": "last", "mean": "sum", "left": "right"}  # fmt: skip
SWAPPED |= {new: old for old, new in SWAPPED.items()}
#: Where a comparison differs only at its border, that border is moved; else its answer is turned round.
COMPARED = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
            ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.In: (r"\bin\b", "not in"),
            ast.NotIn: (r"\bnot\s+in\b", "in"), ast.Is: (r"\bis\b", "is not"),
            ast.IsNot: (r"\bis\s+not\b", "is")}  # fmt: skip
COMPUTED = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.Mod: ("%", "*"),
            ast.FloorDiv: ("//", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
            ast.BitXor: ("^", "|"), ast.LShift: ("<<", ">>"), ast.RShift: (">>", "<<")}  # fmt: skip
#: Arguments that change how something is said, checked or stored, and no result.
QUIET = {"strict", "encoding", "stacklevel", "exist_ok", "missing_ok", "parents"}


@dataclass(frozen=True)
class Mutant:
    """A changed source: the kind of change, its line, that line before and after, and the source as a whole."""

    kind: str
    line: int
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        """What tells it from the others of its file, wherever its line has moved to."""
        return f"{self.before}  ->  {self.after}"


def mutants(source: str) -> list[Mutant]:
    """All mutants of a source, in its order; of those that read alike, the first."""
    text, found = _Text(source), {}
    for node in _changeable(text.tree):
        for kind, start, end, new in _edits(node, text):
            mutant = text.mutant(kind, start, end, new)
            if mutant is not None:
                found.setdefault(mutant.change, mutant)
    return sorted(found.values(), key=lambda m: m.line)


def sample(found: Iterable[Mutant], count: int, seed: str) -> list[Mutant]:
    """So many of them by chance, every kind as often as there is one left, so that constants are not most of them."""
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in found:
        by_kind.setdefault(mutant.kind, []).append(mutant)
    draw, chosen = random.Random(seed), []
    for pool in by_kind.values():
        draw.shuffle(pool)
    while len(chosen) < count and by_kind:
        kinds = list(by_kind)
        draw.shuffle(kinds)
        chosen += [by_kind[kind].pop() for kind in kinds]
        by_kind = {kind: pool for kind, pool in by_kind.items() if pool}
    return sorted(chosen[:count], key=lambda m: m.line)


class _Text:
    """A source by the places of its nodes, which are in bytes."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.starts = [0]
        for line in self.source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.tree = ast.parse(source)
        self.meaning = ast.dump(self.tree)
        self.names = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)} | set(dir(builtins))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """First byte of a node, and the one after its last."""
        start, end = self.starts[node.lineno - 1], self.starts[node.end_lineno - 1]
        return start + node.col_offset, end + node.end_col_offset

    def of(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def mutant(self, kind: str, start: int, end: int, new: str) -> Mutant | None:
        """The source with one part replaced; None where that is no Python, or the same."""
        changed = self.source[:start] + new.encode() + self.source[end:]
        try:
            if ast.dump(ast.parse(changed)) == self.meaning:
                return None
        except SyntaxError:
            return None
        first = self.source.rfind(b"\n", 0, start) + 1
        last = self.source.find(b"\n", end) % (len(self.source) + 1)
        shift = len(changed) - len(self.source)
        before, after = (_one_line(part) for part in (self.source[first:last], changed[first : last + shift]))
        return Mutant(kind, self.source.count(b"\n", 0, start) + 1, before, after, changed.decode())


def _one_line(part: bytes, longest: int = 160) -> str:
    text = " ".join(part.decode().split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _changeable(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one whose change should be noticed; what a raise says is not, but that it is left out is."""
    yield node
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (isinstance(node, ast.If) and _for_types(node)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not (isinstance(child, ast.keyword) and child.arg in QUIET):
                yield from _changeable(child)


def _for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


# -- kinds of changes --------------------------------------------------------------------------------------------------

_Edit = tuple[str, int, int, str]


def _edits(node: ast.AST, text: _Text) -> Iterator[_Edit]:
    """Kind, place and replacement of everything that is changed about one node."""
    for kind, edits in _KINDS.items():
        for start, end, new in edits(node, text):
            yield kind, start, end, new


_Places = Iterator[tuple[int, int, str]]


def _comparison(node: ast.AST, text: _Text) -> _Places:
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for left, op, right in zip(operands, node.ops, operands[1:], strict=False):
            pattern, new = COMPARED[type(op)]
            yield from _between(left, right, pattern, new, text)


def _arithmetic(node: ast.AST, text: _Text) -> _Places:
    if isinstance(node, ast.BinOp) and not isinstance(node.left, (ast.JoinedStr, ast.List, ast.Tuple)):
        symbol, new = COMPUTED.get(type(node.op), ("@", "@"))
        yield from _between(node.left, node.right, re.escape(symbol), new, text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Invert)):
        yield *text.span(node), text.of(node.operand)


def _logic(node: ast.AST, text: _Text) -> _Places:
    if isinstance(node, ast.BoolOp):
        old, new = (r"\band\b", "or") if isinstance(node.op, ast.And) else (r"\bor\b", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from _between(left, right, old, new, text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield *text.span(node), f"({text.of(node.operand)})"
    tests = node.ifs if isinstance(node, ast.comprehension) else [node.test] if isinstance(node, _IFS) else []
    for test in tests:
        if isinstance(test, ast.UnaryOp):
            continue  # turned round above
        yield *text.span(test), f"(not ({text.of(test)}))"


_IFS = (ast.If, ast.IfExp)


def _constant(node: ast.AST, text: _Text) -> _Places:
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        new = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value or 1.0
        yield *text.span(node), repr(new)


def _opposite(node: ast.AST, text: _Text) -> _Places:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    new = SWAPPED.get(name, "")
    loaded = isinstance(getattr(node, "ctx", None), ast.Load)
    if new and loaded and (isinstance(node, ast.Attribute) or new in text.names):
        end = text.span(node)[1]
        yield end - len(name), end, new


def _left_out(node: ast.AST, text: _Text) -> _Places:
    """Keywords of a call, `abs`, `reversed`, `sorted` and `[::-1]`."""
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in QUIET:
                yield _without(node, keyword, text)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("abs", "reversed", "sorted"):
            kept = node.args[0] if node.args else node.func.value
            yield *text.span(node), f"list({text.of(kept)})" if name == "sorted" else f"({text.of(kept)})"
    if isinstance(node, ast.Subscript) and text.of(node.slice) == "::-1":
        yield *text.span(node), text.of(node.value)


def _without(call: ast.Call, keyword: ast.keyword, text: _Text) -> tuple[int, int, str]:
    """A call without a keyword and the comma that goes with it."""
    start, end = text.span(keyword)
    spans = sorted(text.span(argument) for argument in (*call.args, *call.keywords))
    k = spans.index((start, end))
    if k > 0:
        return spans[k - 1][1], end, ""
    return start, spans[1][0] if len(spans) > 1 else end, ""


def _statement(node: ast.AST, text: _Text) -> _Places:
    """Statements with an effect that later ones do not need in order to run."""
    called = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await))
    stored = isinstance(node, ast.Assign) and all(isinstance(t, (ast.Subscript, ast.Attribute)) for t in node.targets)
    if called or stored or isinstance(node, (ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)):
        yield *text.span(node), "pass"


def _between(left: ast.AST, right: ast.AST, pattern: str, new: str, text: _Text) -> _Places:
    """Replace what stands between two operands."""
    start, end = text.span(left)[1], text.span(right)[0]
    gap = text.source[start:end].decode()
    yield start, end, re.sub(pattern, new, gap, count=1)


_KINDS: dict[str, Callable[[ast.AST, _Text], _Places]] = {
    "comparison": _comparison,
    "arithmetic": _arithmetic,
    "logic": _logic,
    "constant": _constant,
    "opposite": _opposite,
    "left out": _left_out,
    "statement": _statement,
}
