"""The table of rules."""

from collections.abc import Callable

from slimnet.graph.op import Rule

RULES: dict[str, Rule] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operators."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            assert op_type not in RULES, f"{op_type} has two rules"
            RULES[op_type] = function
        return function

    return register
