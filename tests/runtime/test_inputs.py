"""Raw tensors are checked against the manifest, with names, dtypes and shapes in the message."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import EngineUnavailable, InputMismatch
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.inputs import InputCheck

IDS = TensorSpec("ids", "int64", ("batch", "sequence"))
X = TensorSpec("x", "float32", ("batch", 3))
STATE = TensorSpec("state", "float16", (2, "batch"))


def feeds(**changes: object) -> dict[str, np.ndarray]:
    """Feeds that fit, with some changed (or, with None, left out)."""
    made: dict[str, object] = {
        "ids": np.zeros((2, 5), np.int64),
        "x": np.zeros((2, 3), np.float32),
        "state": np.zeros((2, 2), np.float16),
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}  # type: ignore[misc]


CHECK = InputCheck((IDS, X, STATE))


def test_fitting_feeds_pass() -> None:
    """What fits comes back as it is, whatever the memory order."""
    given = feeds(x=np.zeros((3, 2), np.float32).T)
    assert CHECK(given) is given


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": "a text"}, ["'x'", "str", "x float32[batch, 3]"]),
        ({"x": [[1.0, 2.0, 3.0]]}, ["'x'", "list"]),
        ({"x": 1.0}, ["'x'", "float"]),
        ({"x": np.zeros((2, 3))}, ["'x'", "float64[2, 3]", "x float32[batch, 3]"]),
        ({"ids": np.zeros((2, 5), np.int32)}, ["'ids'", "int32[2, 5]", "int64"]),
        ({"ids": np.zeros((2, 5), ">i8")}, ["'ids'", ">i8"]),
        ({"x": np.array([["a"] * 3] * 2)}, ["'x'", "got text[2, 3]", "real numbers"]),
        ({"x": np.zeros(3, np.float32)}, ["'x'", "2 axes", "[3]"]),
        ({"x": np.zeros((2, 4), np.float32)}, ["'x'", "3 on axis 1", "[2, 4]"]),
        ({"x": np.zeros((7, 3), np.float32)}, ["'x'", "batch = 7", "'ids'", "batch = 2"]),
        ({"state": np.zeros((2, 9), np.float16)}, ["'state'", "batch = 9"]),
        ({"state": np.zeros((1, 2), np.float16)}, ["'state'", "2 on axis 0"]),
        ({"x": None}, ["x missing"]),
        ({"y": np.zeros(1)}, ["y unknown"]),
        ({"x": None, "y": np.zeros(1)}, ["x missing", "y unknown"]),
        ({"x": np.full((2, 3), np.nan, np.float32)}, ["'x'", "6 NaN"]),
        ({"state": np.array([[0, np.nan], [0, 0]], np.float16)}, ["'state'", "1 NaN"]),
    ],
)
def test_misfit_is_named(changes: dict[str, object], words: list[str]) -> None:
    """Every misfit says which input, what it is, and what it should be."""
    with pytest.raises(InputMismatch) as caught:
        CHECK(feeds(**changes))
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("given", [None, "text", [np.zeros(3)], np.zeros((2, 3))])
def test_not_a_dict(given: object) -> None:
    """Feeds that are no dict are refused with the declared inputs."""
    with pytest.raises(InputMismatch, match="dict of arrays") as caught:
        CHECK(given)  # type: ignore[arg-type]
    assert "x float32[batch, 3]" in str(caught.value.hint)
    assert "Give {'ids': array, 'x': array, 'state': array}." in str(caught.value.hint)


@pytest.mark.parametrize("given", [[1.0], {"ids": [1], "x": [1.0], "state": [1.0]}])
def test_remedy_fits_the_model(given: object) -> None:
    """Texts are proposed only where the model reads texts as well."""
    for texts in (False, True):
        with pytest.raises(InputMismatch) as caught:
            InputCheck((IDS, X, STATE), takes="texts" if texts else None)(given)  # type: ignore[arg-type]
        assert ("texts instead of run()" in str(caught.value.hint)) is texts


def test_infinities_pass() -> None:
    """An infinity can be meant (a mask); only NaN is refused."""
    CHECK(feeds(x=np.full((2, 3), -np.inf, np.float32)))


def test_empty_batch() -> None:
    """Nothing to compute on is refused by name and shape: an engine has died of it."""
    with pytest.raises(InputMismatch, match="batch is empty") as caught:
        CHECK(feeds(ids=np.zeros((0, 5), np.int64)))
    assert "'ids' should be ids int64[batch, sequence], got shape [0, 5]" in str(caught.value)


def test_empty_axis_passes() -> None:
    """An empty cache is an input like any other."""
    InputCheck((TensorSpec("past", "float32", ("batch", "past")),))(
        {"past": np.zeros((1, 0), np.float32)}
    )


def test_size_fixed_at_zero_passes() -> None:
    """What the graph itself declares empty is given empty."""
    InputCheck((TensorSpec("past", "float32", ("batch", 0)),))(
        {"past": np.zeros((1, 0), np.float32)}
    )


def test_dtype_that_numpy_lacks() -> None:
    """bfloat16 inputs cannot be made with numpy: said when the bundle is loaded."""
    with pytest.raises(EngineUnavailable, match="bfloat16"):
        InputCheck((TensorSpec("x", "bfloat16", (1,)),))


def test_scalar_of_numpy_is_an_array_without_axes() -> None:
    """So numpy answers where a 0-d array is summed up or taken out of another one."""
    check = InputCheck((TensorSpec("rate", "int64", ()), X))
    x = np.zeros((2, 3), np.float32)
    found = check({"rate": np.int64(16_000), "x": x})
    assert isinstance(found["rate"], np.ndarray)
    assert found["rate"].shape == ()
    assert found["x"] is x


@pytest.mark.parametrize("scalar", [np.int32(1), np.float64(1)])
def test_scalar_of_another_type_is_refused(scalar: np.generic) -> None:
    """As an array of it is."""
    with pytest.raises(InputMismatch, match=r"'rate' should be rate int64\[\]"):
        InputCheck((TensorSpec("rate", "int64", ()),))({"rate": scalar})  # type: ignore[dict-item]


def test_scalar_for_an_input_with_axes_is_refused() -> None:
    """It has none."""
    with pytest.raises(InputMismatch, match="should be a numpy array"):
        InputCheck((TensorSpec("x", "float32", (1,)),))({"x": np.float32(1)})  # type: ignore[dict-item]
