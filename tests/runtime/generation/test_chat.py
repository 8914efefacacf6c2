"""Conversations into prompts."""

from __future__ import annotations

import sys

import pytest
from transformers import PreTrainedTokenizerFast

from edgekit.core.errors import BundleCorrupt, InputMismatch, MissingDependency
from edgekit.runtime.generation.chat import ChatTemplate, is_conversation
from edgekit.runtime.generation.rules import Chat
from tests.runtime.generation.conftest import TEMPLATE, byte_tokenizer

CHATML = (
    "{%- if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n"
    "{% endif -%}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'"
    " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% set ns = namespace(count=0) %}{% for message in messages %}"
    "{% if message.role == 'tool' %}{% continue %}{% endif %}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + eos_token }}"
    "{% endgeneration %}{% else %}[{{ loop.index0 }}] {{ message | tojson(indent=2) }}"
    "{% endif %}{% set ns.count = ns.count + 1 %}{% endfor %}{{ ns.count }}"
    "{{ strftime_now('%Y') }}{{ dict(a=1)['a'] }}"
)
USER = {"role": "user", "content": "  Grüße, <b>世界</b>! "}
ANSWER = {"role": "assistant", "content": "Hello there"}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("template", [TEMPLATE, CHATML, TURNS])
@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [{"role": "system", "content": "You are terse."}, USER],
        [USER, ANSWER, {"role": "tool", "content": "3"}, USER],
        [USER, ANSWER],
    ],
)
def test_prompts_are_transformers(template: str, messages: list[dict[str, str]]) -> None:
    """Character for character, also where the answer goes on with an assistant's message."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), chat_template=template, **TOKENS
    )
    goes_on = messages[-1]["role"] == "assistant"
    expected = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=not goes_on, continue_final_message=goes_on
    )
    assert ChatTemplate(Chat(template, TOKENS)).render(messages) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set f = cycler.__init__.__globals__ %}{{ f.os.getcwd() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ dict.__init__.__globals__ }}",
        "{% for a in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_reaches_nothing(template: str) -> None:
    """Neither Python's insides nor the caller's messages, nor loops without end."""
    messages = [dict(USER)]
    with pytest.raises(InputMismatch, match="refuses"):
        ChatTemplate(Chat(template)).render(messages)
    assert messages == [USER]


def test_what_a_template_refuses_is_told() -> None:
    """raise_exception's words come back."""
    template = ChatTemplate(Chat("{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(InputMismatch, match="roles must alternate"):
        template.render([USER])


@pytest.mark.parametrize(
    "messages", [[], [{"content": "hi"}], ["hi"], [{"role": "user", "content": object()}]]
)
def test_what_is_no_conversation(messages: list[object]) -> None:
    """Messages have a role, and hold nothing but what JSON does."""
    with pytest.raises(InputMismatch):
        ChatTemplate(Chat(TEMPLATE)).render(messages)  # type: ignore[arg-type]


def test_broken_template() -> None:
    """A template that jinja2 does not read is the bundle's fault."""
    with pytest.raises(BundleCorrupt, match="template"):
        ChatTemplate(Chat("{% if %}"))


def test_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line to type is named."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependency) as caught:
        ChatTemplate(Chat(TEMPLATE))
    assert "chat" in str(caught.value.hint)


def test_with_a_jinja2_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions whose sandbox is known to be open are not used."""
    import jinja2

    monkeypatch.setattr(jinja2, "__version__", "3.1.5")
    with pytest.raises(MissingDependency, match=r"3\.1\.6"):
        ChatTemplate(Chat(TEMPLATE))


def test_conversations_are_told_from_lists() -> None:
    """A list of dicts is one conversation, a list of lists are several."""
    assert is_conversation([USER])
    assert not any(is_conversation(item) for item in ("hi", ["hi"], [[USER]], []))
