"""A chat template, proved to be rendered by the runtime as transformers renders it."""

from __future__ import annotations

from typing import Any

from edgekit.core.errors import ExportError, InputMismatch
from edgekit.runtime.generation.chat import ChatTemplate
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.sources.quiet import quiet

Conversation = list[dict[str, str]]

_ASKED = {"role": "user", "content": "What is a tide?"}
_CONVERSATIONS: tuple[Conversation, ...] = (
    [_ASKED],
    [
        _ASKED,
        {"role": "assistant", "content": "The sea’s rise & fall:\n\n- twice a day <about>"},
        {"role": "user", "content": '  Why "twice"?\n'},
    ],
    [{"role": "system", "content": "Answer in one sentence."}, _ASKED],
)
_HINT = (
    "The template uses something of transformers' own; save the tokenizer with another"
    " chat_template, or without one."
)


def check_chat(tokenizer: Any, rules: GenerationRules) -> int:
    """Compare conversations with transformers; how many there were, 0 without a template.

    The template is the one that a manifest will hold. A conversation that transformers' rendering
    refuses has to be refused. Raises ExportError with the first that differs.
    """
    chat = GenerationRules.read(rules.document()).chat
    if chat is None:
        return 0
    ours = ChatTemplate(chat)
    for messages in _CONVERSATIONS:
        # One after the other, at most once more: a template may ask for the date.
        wanted, got = _theirs(tokenizer, messages), _ours(ours, messages)
        if wanted != got:
            wanted, got = _theirs(tokenizer, messages), _ours(ours, messages)
        if wanted != got:
            roles = ", ".join(message["role"] for message in messages)
            raise ExportError(
                f"The chat template makes of a conversation ({roles}) {_told(got)}; transformers"
                f" makes of it {_told(wanted)}.",
                hint=_HINT,
            )
    return len(_CONVERSATIONS)


def _theirs(tokenizer: Any, messages: Conversation) -> str | None:
    """What transformers renders, None where it refuses."""
    from jinja2 import TemplateError

    try:
        with quiet():
            return str(
                tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            )
    except TemplateError:
        return None


def _ours(template: ChatTemplate, messages: Conversation) -> str | None:
    try:
        return template.render(messages)
    except InputMismatch:
        return None


def _told(text: str | None) -> str:
    return "an error" if text is None else repr(text if len(text) < 240 else f"{text[:240]}…")
