"""`edgekit inspect` of models that generate."""

from __future__ import annotations

from edgekit.cli.commands._cached import generation_facts, spec_lines
from edgekit.core.manifest import TensorSpec


def test_layers_that_are_alike_take_one_line() -> None:
    """And an output of another shape its own."""
    specs = [
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        *(TensorSpec(f"past_key_values.{n}.key", "float32", ("batch", 2)) for n in range(30)),
        TensorSpec("past_key_values.30.key", "float32", ("batch", 4)),
    ]
    assert spec_lines(specs) == [
        "input_ids int64[batch, sequence]",
        "past_key_values.{0…29}.key float32[batch, 2]",
        "past_key_values.30.key float32[batch, 4]",
    ]


def test_rules_are_told_in_words() -> None:
    """The context, the end, the defaults and the chat."""
    facts = generation_facts(
        {
            "mode": "decoder",
            "layers": 2,
            "context": 2048,
            "eos": [2, 3],
            "pad": 0,
            "defaults": {"temperature": 0.2},
            "chat": {"template": "{{ messages }}", "tokens": {}},
        }
    )
    assert facts == [
        ("generates", "up to 2,048 tokens, with the prompt; ends with the token 2, 3"),
        ("by default", "temperature = 0.2"),
        ("chats", "yes, with its own template (the extra chat renders it)"),
    ]


def test_rules_of_another_version_do_not_hide_the_bundle() -> None:
    """They are told as not readable."""
    ((name, told),) = generation_facts({"mode": "oracle"})
    assert name == "generates"
    assert str(told).startswith("not readable: ")


def test_other_bundles_say_nothing_of_it() -> None:
    """There is nothing to say."""
    assert generation_facts(None) == []
