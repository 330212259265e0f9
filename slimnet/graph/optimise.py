"""Clean a graph up before it is shipped or timed: fold shape arithmetic, drop what is unused."""

import onnx_ir as ir
from onnx_ir.passes import PassManager
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from slimnet.common.quiet import only_errors

#: From this opset on, everything that onnxscript's own list of rules writes is valid.
_COMPLETE = 18
#: For older files, its rules by the opset from which on what they read and write is valid.
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
)


def optimise(model: ir.Model) -> ir.Model:
    """The same network with constants folded, batch norms fused and dead nodes removed; the argument is left alone.

    What comes out is valid in the opset that the network came in.
    """
    copy = model.clone()
    imports = copy.graph.opset_imports
    opset = imports.get("", imports.get("ai.onnx", _COMPLETE))
    with only_errors("onnxscript", "onnx_ir"):
        if opset >= _COMPLETE:
            optimizer.optimize_ir(copy)
        else:
            _optimise_old(copy, opset)
    return copy


def _optimise_old(model: ir.Model, opset: int) -> None:
    """What `optimize_ir` does, with the rules that are valid in an older opset."""
    valid = [rule for since, some in _SINCE if since <= opset for rule in some]
    for _ in range(2):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model, valid)
    PassManager(
        [
            passes.RemoveUnusedNodesPass(),
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            passes.LiftSubgraphInitializersToMainGraphPass(),
            passes.DeduplicateInitializersPass(),
            passes.CommonSubexpressionEliminationPass(),
            passes.OutputFixPass(),
            passes.NameFixPass(),
        ]
    )(model)
