"""LSTM, GRU and RNN: gates and directions share one hidden axis."""

import pytest

from slimnet.graph.op import Role
from tests.networks.graphs import assert_same_at_other_sizes, exact, net, pinned, roles, units

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    op: str, dirs: int = 1, extra: str = "", inputs: str = "w, r, b", weights: str = "", outputs: str = "s", **values
):
    g, h = GATES[op], 4
    direction = 'direction="bidirectional", ' if dirs == 2 else ""
    return net(
        f"""(float[5,2,3] x) => (y)
        <float[{dirs},{g * h},3] w, float[{dirs},{g * h},{h}] r, float[{dirs},{2 * g * h}] b, float[{dirs * h},2] v,
         int64[3] flat {weights}>
        {{ {outputs} = {op}<{direction}hidden_size={h}{extra}>(x, {inputs})
           t = Transpose<perm=[0,2,1,3]>(s)
           f = Reshape(t, flat)
           y = MatMul(f, v) }}""",
        flat=[5, 2, -1],
        **values,
    )


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("dirs", [1, 2])
def test_gates_and_directions_share_the_hidden_axis(op, dirs):
    found = exact(recurrent(op, dirs))
    g = GATES[op]
    gates, both = f"x{g}" if g > 1 else "", f"x{dirs}" if dirs > 1 else ""
    assert units(found) == {f"w:1{gates} r:1{gates} r:2 b:1x{2 * g} v:0{both}": 4}
    assert roles(found, "r") == {1: Role.OUT, 2: Role.IN}


@pytest.mark.parametrize("op", GATES)
def test_without_a_bias(op):
    g = GATES[op]
    gates = f"x{g}" if g > 1 else ""
    found = exact(
        net(f"""(float[5,2,3] x) => (y) <float[1,{g * 4},3] w, float[1,{g * 4},4] r, float[4,2] v, int64[1] k = {{1}}>
        {{ s = {op}<hidden_size=4>(x, w, r)
           f = Squeeze(s, k)
           y = MatMul(f, v) }}""")
    )
    assert units(found) == {f"w:1{gates} r:1{gates} r:2 v:0": 4}


def test_gru_with_linear_before_reset():
    assert sum(units(exact(recurrent("GRU", extra=", linear_before_reset=1"))).values()) == 4


def test_initial_states_are_weights_that_go_along():
    found = exact(recurrent("LSTM", 1, inputs="w, r, b, , h0, c0", weights=", float[1,2,4] h0, float[1,2,4] c0"))
    assert units(found) == {"w:1x4 r:1x4 r:2 b:1x8 h0:2 c0:2 v:0": 4}


def test_initial_states_of_zeros_from_a_shape():
    model = net("""(float[5,N,3] x) => (y) <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[4,2] v,
        int64[1] k = {1}, int64[1] two = {2}, int64[1] one = {1}, int64[1] four = {4}>
        { shape = Shape(x)
          batch = Slice(shape, k, two)
          size = Concat<axis=0>(one, batch, four)
          h0 = ConstantOfShape(size)
          s = LSTM<hidden_size=4>(x, w, r, b, , h0, h0)
          f = Squeeze(s, k)
          y = MatMul(f, v) }""")
    assert units(exact(model)) == {"h0:2 w:1x4 r:1x4 r:2 b:1x8 v:0": 4}
    assert_same_at_other_sizes(model, N=5)


def test_initial_states_from_the_input_pin():
    found = exact(
        net("""(float[5,2,3] x, float[1,2,4] h0) => (y)
        <float[1,4,3] w, float[1,4,4] r, float[4,2] v, int64[1] k = {1}>
        { s = RNN<hidden_size=4>(x, w, r, , , h0)
          f = Squeeze(s, k)
          y = MatMul(f, v) }""")
    )
    assert units(found) == {}
    assert pinned(found)["w:1"] == "joins an axis that is fixed: of an input, or of positions"


def test_peepholes():
    found = exact(recurrent("LSTM", 1, inputs="w, r, b, , , , p", weights=", float[1,12] p"))
    assert units(found) == {"w:1x4 r:1x4 r:2 b:1x8 p:1x3 v:0": 4}


def test_the_last_state_and_the_cell():
    found = exact(
        net(
            """(float[5,2,3] x) => (y)
        <float[2,16,3] w, float[2,16,4] r, float[2,32] b, float[8,2] v, float[8,2] u, int64[2] flat>
        { s, h, c = LSTM<hidden_size=4, direction="bidirectional">(x, w, r, b)
          ht = Transpose<perm=[1,0,2]>(h)
          hf = Reshape(ht, flat)
          p = MatMul(hf, v)
          ct = Transpose<perm=[1,0,2]>(c)
          cf = Reshape(ct, flat)
          q = MatMul(cf, u)
          y = Add(p, q) }""",
            flat=[2, 8],
        )
    )
    assert units(found) == {"w:1x4 r:1x4 r:2 b:1x8 v:0x2 u:0x2": 4}


def test_two_layers():
    found = exact(
        net("""(float[5,2,3] x) => (y)
        <float[1,16,3] w, float[1,16,4] r, float[1,15,4] w2, float[1,15,5] r2, float[5,2] v, int64[1] k = {1}>
        { s = LSTM<hidden_size=4>(x, w, r)
          f = Squeeze(s, k)
          t = GRU<hidden_size=5>(f, w2, r2)
          g = Squeeze(t, k)
          y = MatMul(g, v) }""")
    )
    assert units(found) == {"w:1x4 r:1x4 r:2 w2:2": 4, "w2:1x3 r2:1x3 r2:2 v:0": 5}


def test_the_input_channels_go_with_the_layer_before():
    found = exact(
        net("""(float[5,2,3] x) => (y) <float[3,6] e, float[1,4,6] w, float[1,4,4] r, float[4,2] v, int64[1] k = {1}>
        { h = MatMul(x, e)
          s = RNN<hidden_size=4>(h, w, r)
          f = Squeeze(s, k)
          y = MatMul(f, v) }""")
    )
    assert units(found) == {"e:1 w:2": 6, "w:1 r:1 r:2 v:0": 4}


def test_sequence_lengths():
    found = exact(
        net("""(float[5,2,3] x) => (y)
        <float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[4,2] v, int64[1] k = {1}, int32[2] lens = {5, 3}>
        { s = LSTM<hidden_size=4>(x, w, r, b, lens)
          f = Squeeze(s, k)
          y = MatMul(f, v) }""")
    )
    assert units(found) == {"w:1x4 r:1x4 r:2 b:1x8 v:0": 4}


@pytest.mark.parametrize(
    ("op", "activations", "keeps"),
    [
        ("RNN", ["Relu"], True),
        ("RNN", ["Sigmoid"], False),
        ("GRU", ["Sigmoid", "Tanh"], True),
        ("GRU", ["Sigmoid", "Sigmoid"], False),
        ("LSTM", ["Sigmoid", "Tanh", "Tanh"], True),
        ("LSTM", ["Sigmoid", "Sigmoid", "Tanh"], False),
    ],
)
def test_activations_that_keep_the_state_at_zero(op, activations, keeps):
    """Summed over the hidden axis; a state that leaves zero is held back only there."""
    g = GATES[op]
    listed = ",".join(f'"{a}"' for a in activations)
    text = f"""(float[5,2,3] x) => (y) <float[1,{4 * g},3] w, float[1,{4 * g},4] r, int64[1] k = {{3}}>
        {{ s = {op}<hidden_size=4, activations=[{listed}]>(x, w, r)
           y = ReduceSum(s, k) }}"""
    assert sum(units(exact(net(text))).values()) == (4 if keeps else 0)


def test_activations_with_a_weight_behind():
    found = exact(
        net("""(float[5,2,3] x) => (y) <float[1,4,3] w, float[1,4,4] r, float[4,2] v, int64[1] k = {1}>
        { s = RNN<hidden_size=4, activations=["Sigmoid"]>(x, w, r)
          f = Squeeze(s, k)
          y = MatMul(f, v) }""")
    )
    assert units(found) == {"w:1 r:1 r:2 v:0": 4}


def test_cell_clipping_and_coupled_gates():
    found = exact(recurrent("LSTM", 1, extra=", clip=0.5, input_forget=1"))
    assert sum(units(found).values()) == 4
