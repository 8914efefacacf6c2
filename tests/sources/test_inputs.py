"""`--input` declarations."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError
from edgekit.sources.inputs import InputSpec, parse_inputs, sizes_differing, symbols


def test_declaration_gives_name_dtype_and_shape() -> None:
    """Numbers are fixed dimensions and names are varying ones."""
    (spec,) = parse_inputs(["x=float32:batch,sequence,8"])
    assert spec == InputSpec("x", "float32", ("batch", "sequence", 8))
    assert spec.axes == {0: "batch", 1: "sequence"}


def test_declaration_without_dimensions_is_a_scalar() -> None:
    """Nothing behind the colon is the empty shape."""
    assert parse_inputs(["rate=float32:"])[0].shape == ()


@pytest.mark.parametrize(
    "wrong",
    [
        "x",
        "x=float32",
        "=float32:3",
        "x:float32=3",
        "2x=float32:3",
        "x=float32:3,,4",
        "x=float32:0",
        "x=float32:-1",
        "x=float32:3.5",
        "x=float32:batch size",
        "",
    ],
)
def test_wrong_syntax_is_refused_with_the_syntax(wrong: str) -> None:
    """The message holds what was given and the hint an example."""
    with pytest.raises(ConfigError) as caught:
        parse_inputs([wrong])
    assert repr(wrong) in caught.value.message
    assert "NAME=DTYPE:DIM" in str(caught.value.hint)


def test_unknown_dtype_names_the_nearest() -> None:
    """float becomes a question about float32."""
    with pytest.raises(ConfigError, match="unknown type 'flaot32'") as caught:
        parse_inputs(["x=flaot32:3"])
    assert "Did you mean float32?" in str(caught.value.hint)


def test_name_declared_twice_is_refused() -> None:
    """The second declaration of a name does not win silently."""
    with pytest.raises(ConfigError, match="'x' twice"):
        parse_inputs(["x=float32:3", "x=float32:4"])


def test_sizes_of_symbols_all_differ_and_none_is_one() -> None:
    """torch.export takes equal sizes for one dimension and specialises on 0 and 1."""
    names = symbols(parse_inputs(["a=float32:batch,b,c", "d=float32:c,e,f,g,h,i,j,k,l,m"]))
    sizes = sizes_differing(names)
    assert set(sizes) == set(names)
    assert len(set(sizes.values())) == len(names)
    assert min(sizes.values()) > 1
