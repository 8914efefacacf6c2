"""Options are called as whoever wrote them calls them."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError
from edgekit.runtime.options import option, refuse_options, spelled


def shell(name: str, value: object = None) -> str | None:
    """A caller that has one option, of another name."""
    if name != "top_k":
        return None
    return "--top" if value is None else f"--top {value}"


def test_python_names_its_own() -> None:
    """With the value as it is written there."""
    assert option("top_k") == "top_k"
    assert option("do_sample", False) == "do_sample=False"


def test_a_caller_has_names_of_its_own_until_the_end() -> None:
    """What it has no name for is called as in Python; an error on the way ends it as well."""
    with spelled(shell):
        assert option("top_k", 5) == "--top 5"
        assert option("seed") == "seed"
    with pytest.raises(KeyError), spelled(shell):
        raise KeyError
    assert option("top_k", 5) == "top_k=5"


def test_unknown_options_are_told_with_those_that_there_are() -> None:
    """Of which a caller is offered those that it can write."""
    with pytest.raises(ConfigError, match=r"sums has no option 'x'\.") as caught:
        refuse_options({"x": 1}, frozenset({"top_k", "seed"}), "sums")
    assert caught.value.hint == "Its options: seed, top_k, and batch_size."
    with spelled(shell), pytest.raises(ConfigError) as caught:
        refuse_options({"x": 1}, frozenset({"top_k", "seed"}), "sums")
    assert caught.value.hint == "Its options: --top."
