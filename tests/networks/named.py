"""Networks that several files of tests share, as ONNX text for `graphs.net`; any other stands where it is used."""

import onnx_ir as ir

from tests.networks.graphs import from_text

#: Two convolutions with a batch norm between them, and a classifier.
CNN = """(float[N,3,8,8] x) => (y)
    <float[8,3,3,3] conv1, float[8] scale, float[8] shift, float[8] mean, float[8] var, float[12,8,3,3] conv2,
     float[12] bias2, float[12,5] fc>
    { a = Conv(x, conv1)
      b = BatchNormalization(a, scale, shift, mean, var)
      c = Relu(b)
      d = Conv(c, conv2, bias2)
      e = Relu(d)
      f = GlobalAveragePool(e)
      g = Flatten(f)
      y = MatMul(g, fc) }"""

#: Two convolutions with enough channels to have blocks to choose from, and a classifier.
WIDE = """(float[N,3,8,8] x) => (y) <float[64,3,3,3] conv1, float[96,64,3,3] conv2, float[96,5] fc>
    { a = Conv(x, conv1) b = Relu(a) c = Conv(b, conv2) d = Relu(c) e = GlobalAveragePool(d) f = Flatten(e)
      y = MatMul(f, fc) }"""

#: Two matrix products.
MLP = "(float[1,4] x) => (y) <float[4,8] w, float[8,3] v> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"

#: One matrix product, so there is nothing to remove.
PINNED = "(float[1,4] x) => (y) <float[4,3] w> { y = MatMul(x, w) }"

#: Attention with three heads of four dims.
HEADS = """(float[1,5,8] x) => (y) <float[8,12] wq, float[8,12] wk, float[8,12] wv, float[12,8] wo,
        int64[4] split = {0, 0, 3, 4}, int64[3] merge = {0, 0, 12}>
    { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
      qs = Reshape(q, split) ks = Reshape(k, split) vs = Reshape(v, split)
      qh = Transpose<perm=[0,2,1,3]>(qs) kh = Transpose<perm=[0,2,3,1]>(ks) vh = Transpose<perm=[0,2,1,3]>(vs)
      s = MatMul(qh, kh) p = Softmax(s) o = MatMul(p, vh)
      t = Transpose<perm=[0,2,1,3]>(o) m = Reshape(t, merge) y = MatMul(m, wo) }"""


def conv_net(channels: int, size: int = 16, batch: int | str = 1) -> ir.Model:
    """Three convolutions (conv0, conv1, conv2) of so many channels with a Relu each, and a classifier (fc)."""
    layers, value = [], "x"
    for k in range(3):
        layers.append(f'conv{k} = Conv<pads=[1,1,1,1]>({value}, "conv{k}.weight") relu{k} = Relu(conv{k})')
        value = f"relu{k}"
    text = f"""(float[{batch},3,{size},{size}] x) => (float[{batch},10] y)
        <float[{channels},3,3,3] "conv0.weight", float[{channels},{channels},3,3] "conv1.weight",
         float[{channels},{channels},3,3] "conv2.weight", float[{channels},10] "fc.weight">
        {{ {" ".join(layers)} pool = GlobalAveragePool(relu2) flat = Flatten(pool) y = MatMul(flat, "fc.weight") }}"""
    return from_text(text, opset=17)
