"""Texts in, generated texts out: tokenized, batched by length, answered token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import cast

import numpy as np

from edgekit.core.errors import BundleCorrupt, ConfigError, InputMismatch
from edgekit.core.manifest import Manifest
from edgekit.runtime.batching import plan_batches
from edgekit.runtime.caches import past_name
from edgekit.runtime.fields import short
from edgekit.runtime.generation.answering import Growing, Watch, prompts_of
from edgekit.runtime.generation.beams import search
from edgekit.runtime.generation.chat import ChatTemplate, Message, is_conversation
from edgekit.runtime.generation.decoder import Decoder
from edgekit.runtime.generation.logits import Place, make_rules
from edgekit.runtime.generation.loop import Row, steps
from edgekit.runtime.generation.options import Options, exactly, read_options, room
from edgekit.runtime.generation.pieces import Pieces, Stops, clean
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.joined import parts_of
from edgekit.runtime.session import Array, Session
from edgekit.runtime.text import encode, load_tokenizer

#: The most prompts of one batch, where the caller says nothing: each holds a cache of its own.
PROMPTS = 8
# What a seq2seq model's answers are called by transformers' pipelines.
_ANSWERS = {
    "translation": "translation_text",
    "summarization": "summary_text",
    "text2text": "generated_text",
}
_FULL_TEXT = "return_full_text"


@dataclass(frozen=True)
class Asked:
    """One input: a text as it was given or a conversation, and the tokens that a model reads."""

    item: str | Sequence[Message]
    tokens: Sequence[int]


class GenerationPredictor:
    """A prompt or a conversation in, its answer out; a source text in, its translation out.

    Raises MissingDependency, BundleCorrupt, BundleVersion.
    """

    def __init__(self, session: Session, manifest: Manifest, directory: Path) -> None:
        self.rules = GenerationRules.read(manifest.generation or {})
        self._task = manifest.task
        processor = manifest.processor or {}
        self.tokenizer = load_tokenizer(directory, str(processor["tokenizer"]))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._encoder, self.decoder = open_decoder(session, self.rules)
        self._template: ChatTemplate | None = None
        self._lock = Lock()

    @property
    def chats(self) -> bool:
        """Whether it answers conversations."""
        return self.rules.chat is not None

    def __call__(
        self, inputs: object, *, batch_size: int | None, options: Mapping[str, object]
    ) -> object:
        """See `edgekit.runtime.predictor.Predictor`."""
        read, full = self._options(options)
        if not isinstance(inputs, list) or is_conversation(inputs):
            asked = self._ask(inputs)
            (row,) = self._rows([asked], read)
            self._answer([row], read)
            return [self._told(asked, row, full)]
        several = [self._ask(item) for item in inputs]
        rows = self._rows(several, read)
        sizes = [len(one.tokens) for one in several]
        for places in plan_batches(sizes, batch_size or PROMPTS):
            self._answer([rows[place] for place in places], read)
        told = [self._told(one, row, full) for one, row in zip(several, rows, strict=True)]
        return told if self._seq2seq else [[one] for one in told]

    def stream(self, inputs: object, options: Mapping[str, object]) -> Iterator[str]:
        """The pieces of one answer as they come; with beams all of it at the end.

        What is wrong with the input or the options is raised here, before the first piece.
        """
        if isinstance(inputs, list) and not is_conversation(inputs):
            raise InputMismatch(
                f"stream answers one input at a time, got a list of {len(inputs)}.",
                hint="Stream each of them, or call the model with the list.",
            )
        if _FULL_TEXT in options:
            raise ConfigError(
                f"{_FULL_TEXT} is for a call: a stream gives the new text alone.",
                hint="Leave it out.",
            )
        read, _ = self._options(options)
        (row,) = self._rows([self._ask(inputs)], read)
        return self._pieces(row, read)

    def _pieces(self, row: Row, options: Options) -> Iterator[str]:
        pieces = Pieces(self.tokenizer, cleanup=self.rules.cleanup)
        if options.num_beams > 1:
            self._answer([row], options)
            yield self._text(row)
            return
        growing = self._steps([row], options)
        try:
            for _ in growing:
                piece = pieces.add(row.tokens[-1])
                if piece:
                    yield piece
        finally:
            growing.close()
        rest = pieces.end()
        if rest:
            yield rest

    def tokens(self, inputs: object, **options: object) -> list[int]:
        """The token ids of one answer, for who measures or compares them."""
        read, _ = self._options(options)
        (row,) = self._rows([self._ask(inputs)], read)
        self._answer([row], read)
        return row.new

    def growing(self, feeds: Mapping[str, Array], count: int, watch: Watch) -> Growing:
        """See `edgekit.runtime.generation.answering.Answering`."""
        options = read_options(exactly(count), self.rules, task=self._task)
        rows = self._rows([Asked("", tokens) for tokens in prompts_of(feeds)], options)
        for row in rows:
            row.rules = watch(row.place, row.rules)
        return rows, self._steps(rows, options)

    @property
    def _seq2seq(self) -> bool:
        return self.rules.mode == "seq2seq"

    def _options(self, given: Mapping[str, object]) -> tuple[Options, bool]:
        more = () if self._seq2seq else (_FULL_TEXT,)
        full = given.get(_FULL_TEXT, True)
        if not isinstance(full, bool):
            raise ConfigError(f"{_FULL_TEXT} is True or False, got {short(full)}.")
        return read_options(given, self.rules, task=self._task, more=more), full

    def _ask(self, item: object) -> Asked:
        if is_conversation(item):
            assert isinstance(item, list | tuple)
            # What a template writes holds its special tokens already.
            text, special = self._chat().render(item), False
        elif isinstance(item, str):
            text, special = (self.rules.prefix or "") + item, True
        else:
            forms = "a str or a conversation" if self.chats else "a str"
            raise InputMismatch(
                f"{self._task} takes {forms}, or a list of them, got {short(item)}.",
                hint='A conversation is a list like [{"role": "user", "content": "…"}].'
                if self.chats
                else "Give texts.",
            )
        tokens = encode(self.tokenizer, text, add_special_tokens=special).ids
        if not tokens:
            if self._seq2seq or self.rules.bos is None:
                raise InputMismatch(
                    f"The text {short(item)} has no tokens, and the model has none to begin with.",
                    hint="Give a text to go on with.",
                )
            tokens = [self.rules.bos]
        if self._seq2seq:
            self._check_source(len(tokens))
        return Asked(cast("str | Sequence[Message]", item), tokens)

    def _chat(self) -> ChatTemplate:
        if self.rules.chat is None:
            raise InputMismatch(
                "The model has no chat template, and so answers no conversations.",
                hint="Give the prompt as a text, or export a chat model, often named …-Instruct.",
            )
        with self._lock:
            if self._template is None:
                self._template = ChatTemplate(self.rules.chat)
            return self._template

    def _check_source(self, size: int) -> None:
        most = self.rules.encoder_context
        if most is not None and size > most:
            raise InputMismatch(
                f"The text has {size:,} tokens; the model reads at most {most:,}.",
                hint="Give it in shorter parts.",
            )

    def _rows(self, several: Sequence[Asked], options: Options) -> list[Row]:
        rows = []
        for place, asked in enumerate(several):
            prompt = self.rules.start if self._seq2seq else asked.tokens
            source = asked.tokens if self._seq2seq else ()
            most = len(prompt) + room(options, self.rules, len(prompt))
            made = make_rules(options, self.rules, Place(len(prompt), most), source)
            rows.append(Row(prompt, most, made, place, source))
        return rows

    def _answer(self, rows: Sequence[Row], options: Options) -> None:
        """Fill the rows' tokens in."""
        if options.num_beams == 1:
            for _ in self._steps(rows, options):
                pass
            return
        stops = Stops(self.tokenizer, options.stop_strings)
        for row in rows:
            search(self.decoder, row, self._given([row]), options, self.rules, stops)

    def _steps(self, rows: Sequence[Row], options: Options) -> Generator[Sequence[Row], None, None]:
        stops = Stops(self.tokenizer, options.stop_strings)
        return steps(self.decoder, rows, self._given(rows), options, self.rules, stops)

    def _given(self, rows: Sequence[Row]) -> dict[str, Array]:
        """What the encoder makes of the rows' sources, under the decoder's names."""
        if self._encoder is None:
            return {}
        width = max(len(row.source) for row in rows)
        ids = np.full((len(rows), width), self.rules.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row.source)] = row.source
            mask[index, : len(row.source)] = 1
        return encoded(
            self._encoder, self.decoder, {"input_ids": ids, "attention_mask": mask}, mask
        )

    def _text(self, row: Row) -> str:
        text = str(self.tokenizer.decode(row.new, skip_special_tokens=True))
        return clean(text) if self.rules.cleanup else text

    def _told(self, asked: Asked, row: Row, full: bool) -> dict[str, object]:
        """The answer as transformers' pipeline gives it."""
        text = self._text(row)
        if self._seq2seq:
            return {_ANSWERS[self.rules.task]: text}
        if not full:
            return {"generated_text": text}
        if isinstance(asked.item, str):
            return {"generated_text": asked.item + text}
        messages = [dict(message) for message in asked.item]
        if messages[-1].get("role") == "assistant":
            messages[-1]["content"] = f"{messages[-1].get('content', '')}{text}"
        else:
            messages.append({"role": "assistant", "content": text})
        return {"generated_text": messages}


def open_decoder(session: Session, rules: GenerationRules) -> tuple[Session | None, Decoder]:
    """(encoder, decoder) of a bundle's session; a decoder of one component has no encoder.

    Raises BundleCorrupt where the components are not those of the rules' mode.
    """
    parts = parts_of(session)
    if rules.mode == "decoder":
        if parts is None:
            return None, Decoder(session)
    elif parts is not None and set(parts) == {"encoder", "decoder"}:
        encoder = parts["encoder"]
        given = [past_name(spec.name) for spec in encoder.outputs]
        return encoder, Decoder(parts["decoder"], [*given, _ENCODER_MASK])
    raise BundleCorrupt(
        f"The manifest's generation is of the mode {rules.mode}; the bundle has the components"
        f" {', '.join(parts or ('model',))}.",
        hint="Export the bundle again.",
    )


_ENCODER_MASK = "encoder_attention_mask"


def encoded(
    encoder: Session, decoder: Decoder, feeds: Mapping[str, Array], mask: Array | None
) -> dict[str, Array]:
    """What a decoder is given of an encoder's run: the cross-attention's cache, and the mask."""
    taken = {spec.name for spec in encoder.inputs}
    made = encoder.run({name: array for name, array in feeds.items() if name in taken})
    given = {past_name(name): array for name, array in made.items()}
    if mask is not None:
        given[_ENCODER_MASK] = mask
    return {name: array for name, array in given.items() if name in decoder.inputs}
