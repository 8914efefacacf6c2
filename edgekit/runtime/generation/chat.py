"""Messages into a prompt, by the checkpoint's own chat template in jinja2's sandbox.

A template comes with a bundle and so from anybody: it is rendered where it can reach neither
attributes nor modules of Python's, from plain texts, numbers, lists and dicts alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from edgekit.core.errors import BundleCorrupt, ConfigError, InputMismatch, MissingDependency
from edgekit.core.lazy import install_line, require
from edgekit.core.versions import version_key
from edgekit.runtime.fields import short
from edgekit.runtime.generation.rules import Chat

if TYPE_CHECKING:
    from jinja2 import Template

Message: TypeAlias = Mapping[str, object]

# Versions before it let templates out of the sandbox.
_SAFE = "3.1.6"
_FORM = 'Messages are dicts like {"role": "user", "content": "…"}.'


class ChatTemplate:
    """A chat template, compiled once; rendering is safe from many threads.

    Raises MissingDependency without jinja2, BundleCorrupt for a template that is none.
    """

    def __init__(self, chat: Chat) -> None:
        self._tokens = dict(chat.tokens)
        self._template = _compile(chat.template)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt of a conversation, for the assistant to answer.

        A last message of the assistant's is not closed: the answer goes on with it.

        Raises InputMismatch for messages that are none, or that the template refuses.
        """
        plain = [_message(one) for one in messages]
        if not plain:
            raise InputMismatch("The conversation has no messages.", hint=_FORM)
        goes_on = plain[-1].get("role") == "assistant"
        text = self._rendered(plain, answer=not goes_on)
        if not goes_on:
            return text
        last = str(plain[-1].get("content", "")).strip()
        end = text.rfind(last)
        if end < 0:
            raise InputMismatch(
                "The chat template leaves out the assistant's last message, which the answer should"
                " go on with.",
                hint="End the conversation with a message of the user's.",
            )
        return text[: end + len(last)]

    def _rendered(self, messages: list[dict[str, object]], *, answer: bool) -> str:
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=answer,
                **self._tokens,
            )
        except Exception as error:  # whatever a template of somebody else's does
            raise InputMismatch(
                f"The model's chat template refuses the conversation: {error}.",
                hint=f"Its roles usually take turns, user and assistant. {_FORM}",
            ) from error


def is_conversation(item: object) -> bool:
    """Whether an input is one conversation: a list of dicts."""
    return isinstance(item, list | tuple) and bool(item) and isinstance(item[0], Mapping)


def _message(message: object) -> dict[str, object]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InputMismatch(f"{short(message)} is no message of a conversation.", hint=_FORM)
    plain = _plain(message)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> object:
    """A value as JSON's types, so that a template finds no methods of others' classes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise InputMismatch(
        f"A message holds {short(value)}, a {type(value).__name__}.",
        hint="Messages hold texts, numbers, lists and dicts.",
    )


def _compile(source: str) -> Template:
    jinja2 = require("jinja2", "chat")
    if version_key(str(jinja2.__version__)) < version_key(_SAFE):
        raise MissingDependency(
            f"Chat templates need jinja2 {_SAFE} or later, whose sandbox holds; here is"
            f" {jinja2.__version__}.",
            hint=f"Run: {install_line('chat', options='--upgrade')}",
        )
    from jinja2 import nodes
    from jinja2.ext import Extension, LoopControlExtension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}…{% endgeneration %}``, which marks what training learns from."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    # The class itself has methods that a template needs not.
    environment.globals["dict"] = _dict
    try:
        return environment.from_string(source)
    except Exception as error:
        raise BundleCorrupt(
            f"The bundle's chat template is no jinja2 template: {error}.",
            hint="Export the bundle again.",
        ) from error


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own writes < and > for HTML.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> None:
    raise ConfigError(message)


def _dict(*items: Any, **named: object) -> dict[object, object]:
    return dict(*items, **named)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
