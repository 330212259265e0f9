import pytest

from slimnet.common.errors import BadInput
from slimnet.common.inputs import Input, Inputs, parse_input, parse_inputs


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("1x3x224x224", Input(None, (1, 3, 224, 224))),
        ("1,16", Input(None, (1, 16))),
        ("7", Input(None, (7,))),
        ("x=1x16", Input("x", (1, 16))),
        ("ids=1x16:int64", Input("ids", (1, 16), "int64")),
        ("1x16:float16", Input(None, (1, 16), "float16")),
        ("gpu_0/data_0=1x3", Input("gpu_0/data_0", (1, 3))),
        ("input:0=1x3", Input("input:0", (1, 3))),
        ("a=b=1x3", Input("a=b", (1, 3))),
        ("scalar", Input(None, ())),
        ("flag=scalar:int64", Input("flag", (), "int64")),
    ],
)
def test_one_spec(spec: str, expected: Input) -> None:
    assert parse_input(spec) == expected
    assert parse_input(str(expected)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("1x3", [Input(None, (1, 3))]),
        (["a=1x3", "b=2:int64"], [Input("a", (1, 3)), Input("b", (2,), "int64")]),
        ((1, 3, 8, 8), [Input(None, (1, 3, 8, 8))]),
        ({"a": (1, 3), "b": [2], "c": ()}, [Input("a", (1, 3)), Input("b", (2,)), Input("c", ())]),
        ({"a": "1x3", "b": "2:int64"}, [Input("a", (1, 3)), Input("b", (2,), "int64")]),
        ([Input("a", (1,))], [Input("a", (1,))]),
    ],
)
def test_every_form(given: Inputs, expected: list[Input]) -> None:
    assert parse_inputs(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("1x3x", "`inputs` 1x3x: is not a shape; write 1x3x224x224"),
        ("x=", "`inputs` x=: is not a shape"),
        ("-1x3", "is not a shape"),
        ("1x16:int", "`inputs` 1x16:int: int is not a type; use one of float32"),
        ("1x0", "`inputs` 1x0: the shape 1x0 is empty"),
        ({"x": (0, 1)}, "`inputs` x: the shape 0x1 is empty"),
        (["1x3", "x=1x3"], "`inputs` 1x3: has no name while others have"),
        (["x=1", "x=2"], "`inputs` x: is given twice"),
    ],
)
def test_bad_specs_are_named(given: Inputs, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_inputs(given)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
