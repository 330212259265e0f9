"""Clean a graph up before it is shipped or timed: fold shape arithmetic, drop what is unused."""

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassManager, PassResult
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from slimnet.common.quiet import only_errors

#: Rules of onnxscript by the opset from which on what they read and write is valid; without the one that makes a Split
#: of two Slices, which looks at every pair of nodes.
_SINCE = (
    (9, (rules.add_0_rule, rules.sub_0_rule, rules.mul_by_1_rule, rules.div_by_1_rule, rules.dropout_zero_rule)),
    (9, (rules.cast_cast_rule, rules.no_op_cast_rule, rules.no_op_expand_rule)),
    (9, (rules.cast_constant_of_shape_rule, rules.cast_constant_of_shape_without_value_rule)),
    (9, (rules.one_reshape_matmul_reshape_rule, rules.two_reshapes_matmul_reshape_rule)),
    (9, (rules.flatten_to_reshape_rule, rules.reshape_reshape_rule)),
    (9, (rules.no_op_transpose_rule, rules.transpose_transpose_rule, rules.successive_relu_rule)),
    (9, (rules.fuse_batchnorm_into_conv_rule, rules.fuse_batchnorm_into_conv_transpose_rule)),
    (9, (rules.fuse_batchnorm_into_gemm_rule, rules.remove_optional_bias_from_conv_rule)),
    (9, (rules.remove_optional_bias_from_conv_transpose_rule,)),
    # Slice has its bounds as inputs.
    (10, (rules.collapse_slice_rule, rules.collapse_slice2_rule, rules.remove_optional_bias_from_qlinear_conv_rule)),
    # The sum of a Gemm may be left out; Pad has its amounts as an input.
    (11, (rules.remove_optional_bias_from_gemm_rule, rules.normalize_pad_format_conv_rule)),
    (11, (rules.fuse_pad_into_conv_rule,)),
    # Clip has its bounds as inputs, for all numbers; Dropout its training mode.
    (12, (rules.successive_clip_rule, rules.successive_clip_relu_rule, rules.successive_relu_clip_rule)),
    (12, (rules.min_min_rule, rules.max_max_rule, rules.min_max_rule, rules.max_min_rule)),
    (12, (rules.dropout_inference_rule,)),
    # Squeeze and Unsqueeze have their axes as inputs.
    (13, (rules.unsqueeze_unsqueeze_rule, rules.squeeze_reshape_1d_rule)),
    # Reshape has `allowzero`.
    (14, (rules.materialize_reshape_shape_rule,)),
    # ScatterND has `reduction`.
    (18, (rules.no_op_dynamic_scatter_nd_rule, rules.no_op_static_scatter_nd_rule)),
    (18, (rules.normalize_pad_format_conv_integer_rule, rules.fuse_pad_into_conv_integer_rule)),
)


def optimise(model: ir.Model) -> ir.Model:
    """The same network with constants folded, batch norms fused and dead nodes removed; the argument is left alone.

    What comes out is valid in the opset that the network came in.
    """
    copy = model.clone()
    imports = copy.graph.opset_imports
    opset = imports.get("", imports.get("ai.onnx", _SINCE[-1][0]))
    valid = [rule for since, some in _SINCE if since <= opset for rule in some]
    with only_errors("onnxscript", "onnx_ir"):
        PassManager([_Fold(), rewriter.RewritePass(valid), *_dropped()], steps=2, early_stop=True)(copy)
        PassManager(
            [
                *_dropped(),
                passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
                passes.LiftSubgraphInitializersToMainGraphPass(),
                passes.DeduplicateInitializersPass(),
                passes.CommonSubexpressionEliminationPass(),
                passes.OutputFixPass(),
                passes.NameFixPass(),
            ]
        )(copy)
    return copy


class _Fold(InPlacePass):
    """Constants folded, with the shapes that onnx infers."""

    def call(self, model: ir.Model) -> PassResult:
        return PassResult(model, optimizer.fold_constants(model, onnx_shape_inference=True).modified)


def _dropped() -> list[InPlacePass]:
    """What drops all that is not used."""
    return [passes.RemoveUnusedNodesPass(), passes.RemoveUnusedFunctionsPass(), passes.RemoveUnusedOpsetsPass()]
