"""One rule per operator: which indices are the same, and which integers count them.

To add an operator, write a function in the file of its family and decorate it with `@rule("OpName")`.
"""

from slimnet.graph.rules import (
    attention,
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
from slimnet.graph.rules.registry import RULES

__all__ = ["RULES"]

FAMILIES = (attention, elementwise, linear, norm, pooling, quantized, recurrent, reduce, sequence, shape)
