'''One rule per operator: which indices are the same, and which integers count them.

To add an operator, write a function in the file of its family and decorate it with `@rule("OpName")`. A distribution
can bring rules for operators of its own, by an entry point of the group "slimnet.rules":

    [project.entry-points."slimnet.rules"]
    acme = "acme_rules"          # in pyproject.toml of the distribution

    """acme_rules.py: rules for the operators of com.acme."""

    from slimnet.graph.op import Op, Result
    from slimnet.graph.rules import Trait, rule


    @rule("ScaledRelu", domain="com.acme", traits=Trait.NONLINEAR | Trait.POINTWISE)
    def scaled_relu(op: Op) -> Result:
        """relu(x) * s with one s per channel: x[N, C, ...], s[C]."""
        batch, channel, *rest = op.axes(0)
        op.same(op.axis(1, 0), channel)
        return [[batch, channel, *rest]]

The entry point names a module, which registers its rules as it is imported, or a function that does so when called.
It is loaded once, before the first graph is traced.
'''

from slimnet.graph.registry import Trait, describe, rule
from slimnet.graph.rules import (
    attention,
    contrib,
    elementwise,
    linear,
    norm,
    pooling,
    quantized,
    recurrent,
    reduce,
    sequence,
    shape,
)

__all__ = ["FAMILIES", "Trait", "describe", "rule"]

FAMILIES = (attention, contrib, elementwise, linear, norm, pooling, quantized, recurrent, reduce, sequence, shape)
