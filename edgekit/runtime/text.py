"""Text in, token tensors out: a bundle's declarative tokenization, with `tokenizers` alone.

A processor of kind ``text`` says everything that decides the tensors: the ``tokenizer.json``, the
longest length, how longer texts are cut, what shorter ones are filled with, and which inputs the
graph takes. Transformers is not asked; the exporter has proved beforehand that it would agree.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, BundleVersion, InputMismatch
from edgekit.core.lazy import require

_LOGGER = logging.getLogger("edgekit")

Text: TypeAlias = str | tuple[str, str]
Ints: TypeAlias = NDArray[np.int64]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
STRATEGIES = ("longest_first", "only_first", "only_second")
SIDES = ("left", "right")
# The pipeline of transformers 4.57 reads a context in windows of at most so many tokens.
WINDOW_LENGTH = 384
WINDOW_STRIDE = 128


class Encoding(Protocol):
    """What is used of a ``tokenizers.Encoding``: one text (or window of it), never padded."""

    @property
    def ids(self) -> list[int]:
        """The token ids, special tokens included."""

    @property
    def type_ids(self) -> list[int]:
        """Which segment each token belongs to, as the model was trained to see it."""

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Where each token begins and ends in its text, in characters."""

    @property
    def word_ids(self) -> list[int | None]:
        """The word that each token belongs to; None for special tokens."""

    @property
    def sequence_ids(self) -> list[int | None]:
        """0 for tokens of the first text, 1 of the second, None for special ones."""

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for tokens that the tokenizer added."""

    @property
    def overflowing(self) -> list[Encoding]:
        """What truncation cut off: the further windows."""

    def token_to_word(self, token_index: int) -> int | None:
        """The word of a token."""

    def word_to_chars(self, word_index: int, sequence_index: int = 0) -> tuple[int, int] | None:
        """Where a word of one of the texts begins and ends, in characters."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Encoded:
    """One padded batch.

    ``feeds`` are int64 arrays ``[batch, sequence]`` by input name. ``rows[i]`` is the tokenizers
    encoding behind row ``i``, without padding: its ``offsets``, ``word_ids``, ``sequence_ids`` and
    ``special_tokens_mask``. ``owners[i]`` is the index of the text that row ``i`` belongs to; a
    text has several rows only where it is read in overlapping windows. ``truncated`` counts the
    texts that lost tokens.
    """

    feeds: dict[str, Ints]
    rows: tuple[Encoding, ...]
    owners: tuple[int, ...]
    truncated: int


@dataclass(frozen=True)
class TextRules:
    """A processor of kind ``text``, read and checked. ``max_length`` counts special tokens too."""

    tokenizer: str
    inputs: tuple[str, ...]
    max_length: int | None
    strategy: str = "longest_first"
    truncation_side: str = "right"
    stride: int = 0
    windows: bool = False
    padding_side: str = "right"
    pad_id: int = 0
    pad_type_id: int = 0


class TextProcessor:
    """Turns texts into the feeds of a graph.

    Safe to use from many threads at once: nothing changes after construction but a counter.

    Args:
        processor: the manifest's processor, of kind ``text``.
        directory: the bundle's folder, where the tokenizer file lies.
        length: the graph's sequence length when it is fixed: every row is filled, and cut, to it.

    Raises:
        MissingDependency: `tokenizers` is not installed.
        BundleCorrupt: a value is not what it should be, or the tokenizer file does not load.
        BundleVersion: the processor asks for something this edgekit does not know.
    """

    def __init__(
        self, processor: Mapping[str, object], directory: Path, *, length: int | None = None
    ) -> None:
        self.rules = read_rules(processor)
        self.length = length
        self.tokenizer = load_tokenizer(directory, self.rules.tokenizer)
        self.max_length = _shorter(self.rules.max_length, length)
        self._specials = int(self.tokenizer.num_special_tokens_to_add(True))
        self._configure()
        self._lock = Lock()
        self._truncated = 0

    def _configure(self) -> None:
        # Padding is done here, over the sub-batches that sorting by length makes.
        self.tokenizer.no_padding()
        if self.max_length is None:
            self.tokenizer.no_truncation()
            return
        try:
            self.tokenizer.enable_truncation(
                self.max_length,
                stride=self.rules.stride,
                strategy=self.rules.strategy,
                direction=self.rules.truncation_side,
            )
        except ValueError as error:
            raise BundleCorrupt(
                f"The processor's lengths contradict each other: {error}",
                hint="Export the bundle again with a longer length or a shorter stride.",
            ) from error

    @property
    def truncated(self) -> int:
        """How many texts have lost tokens to the model's length so far."""
        return self._truncated

    def encode(self, texts: Sequence[Text]) -> Encoded:
        """The texts as one batch, padded to the longest of them (or to the fixed length).

        Raises InputMismatch for a text that cannot be tokenized.
        """
        before = self._truncated
        rows: list[Encoding] = []
        owners: list[int] = []
        for index, text in enumerate(texts):
            found = self.tokenize(text)
            rows.extend(found)
            owners.extend([index] * len(found))
        feeds = self.collate(rows)
        return Encoded(feeds, tuple(rows), tuple(owners), self._truncated - before)

    def tokenize(self, text: Text) -> list[Encoding]:
        """The rows of one text: one, or its windows. Raises InputMismatch."""
        if isinstance(text, str):
            parts: tuple[str, ...] = (text,)
        elif isinstance(text, tuple) and len(text) == 2 and all(isinstance(t, str) for t in text):
            parts = text
        else:
            raise InputMismatch(
                f"A text is a str or a pair (str, str), got {_shown(text)}.",
                hint="Give a str, or a tuple of two.",
            )
        if self.rules.windows:
            self._check_room(parts)
        first = encode(self.tokenizer, *parts)
        size = len(first)
        if size == 0:
            raise InputMismatch(
                f"The text {_shown(text)} has no tokens.", hint="Leave empty texts out."
            )
        if self.rules.windows:
            return [first, *first.overflowing]
        if size == self.max_length and first.overflowing:
            self._tell_truncation()
        return [first]

    def collate(self, rows: Sequence[Encoding]) -> dict[str, Ints]:
        """The feeds ``[len(rows), longest]`` of unpadded rows, by input name, int64."""
        if len(rows) == 1 and self.length is None:
            only = rows[0]
            return {name: _unpadded(name, only) for name in self.rules.inputs}
        sizes = [len(row) for row in rows]
        width = max(sizes) if self.length is None else self.length
        fills = {"input_ids": self.rules.pad_id, "token_type_ids": self.rules.pad_type_id}
        feeds: dict[str, Ints] = {}
        for name in self.rules.inputs:
            array = np.full((len(rows), width), fills.get(name, 0), dtype=np.int64)
            for index, (row, size) in enumerate(zip(rows, sizes, strict=True)):
                array[index, self.span(size, width)] = _values(name, row)
            feeds[name] = array
        return feeds

    def span(self, size: int, width: int) -> slice:
        """Where the `size` real tokens of a row padded to `width` stand."""
        return slice(0, size) if self.rules.padding_side == "right" else slice(width - size, width)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of some token ids."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def join(self, tokens: Sequence[str]) -> str:
        """Tokens put together the way the tokenizer's decoder does it."""
        decoder = self.tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    @property
    def marks_subwords(self) -> bool:
        """Whether a token tells by itself that it continues a word (``##ing``)."""
        return bool(getattr(self.tokenizer.model, "continuing_subword_prefix", None))

    def _check_room(self, parts: tuple[str, ...]) -> None:
        """Refuse a pair whose first text leaves no room for a window of the second.

        tokenizers aborts with a Rust panic there, which is not even an Exception.
        """
        if self.max_length is None or len(parts) < 2:
            return
        kept = parts[0] if self.rules.strategy == "only_second" else parts[1]
        try:
            used = len(self.tokenizer.encode(kept, add_special_tokens=False))
        except Exception:
            # A single text longer than everything, and no second one that could be cut.
            used = self.max_length
        room = self.max_length - self._specials - used
        if room <= self.rules.stride:
            raise InputMismatch(
                f"{_shown(kept)} takes {used} tokens and leaves {max(room, 0)} of"
                f" {self.max_length} for the text beside it, which is read in windows that"
                f" overlap by {self.rules.stride}.",
                hint="Shorten it.",
            )

    def _tell_truncation(self) -> None:
        with self._lock:
            self._truncated += 1
            first = self._truncated == 1
        # Said once where people look; a long-running service counts the rest in `truncated`.
        _LOGGER.log(
            logging.WARNING if first else logging.DEBUG,
            "A text was longer than the %d tokens the model takes and was truncated.",
            self.max_length,
        )


def load_tokenizer(directory: Path, name: str) -> Any:
    """The ``tokenizers.Tokenizer`` in a bundle's file. Raises MissingDependency, BundleCorrupt."""
    tokenizers = require("tokenizers", "text")
    try:
        return tokenizers.Tokenizer.from_file(str(directory / name))
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleCorrupt(
            f"The tokenizer {name} does not load: {error}.",
            hint="Get the bundle again; if it stays, upgrade: pip install -U tokenizers",
        ) from error


def encode(tokenizer: Any, *parts: str, add_special_tokens: bool = True) -> Encoding:
    """The tokens of a text, or of a pair of them. Raises InputMismatch for what is no text."""
    try:
        made: Encoding = tokenizer.encode(*parts, add_special_tokens=add_special_tokens)
    except TypeError as error:
        raise InputMismatch(
            f"The text {_shown(*parts)} holds half a surrogate pair, which is not Unicode text.",
            hint="Clean it: text.encode('utf-8', 'replace').decode()",
        ) from error
    except Exception as error:  # tokenizers raises bare Exception
        raise InputMismatch(
            f"The text {_shown(*parts)} cannot be tokenized: {error}.", hint="Shorten it."
        ) from error
    return made


def read_rules(processor: Mapping[str, object]) -> TextRules:
    """The checked rules of a processor of kind ``text``. Raises BundleCorrupt, BundleVersion."""
    if processor.get("kind") != "text":
        raise BundleVersion(f"The processor is of kind {processor.get('kind')!r}, not 'text'.")
    truncation = _section(processor, "truncation")
    padding = _section(processor, "padding")
    post = _section(processor, "post")
    max_length = _whole(processor, "max_length", None)
    stride = _whole(truncation, "stride", 0) or 0
    windows = post.get("kind") == "question-answering"
    if windows and max_length is not None:
        max_length = _whole(post, "max_sequence_length", None) or min(max_length, WINDOW_LENGTH)
        default = stride or min(max_length // 2, WINDOW_STRIDE)
        stride = _whole(post, "doc_stride", default) or 0
    padding_side = _choice(padding, "side", SIDES, "right")
    strategy = _choice(truncation, "strategy", STRATEGIES, STRATEGIES[0])
    if windows:
        # Only the context is cut; the question comes first unless padding is on the left.
        strategy = "only_second" if padding_side == "right" else "only_first"
    return TextRules(
        tokenizer=str(processor.get("tokenizer", "tokenizer.json")),
        inputs=_inputs(processor),
        max_length=max_length,
        strategy=strategy,
        truncation_side=_choice(truncation, "side", SIDES, "right"),
        stride=stride if windows else 0,
        windows=windows,
        padding_side=padding_side,
        pad_id=_whole(padding, "id", 0) or 0,
        pad_type_id=_whole(padding, "type_id", 0) or 0,
    )


def _inputs(processor: Mapping[str, object]) -> tuple[str, ...]:
    names = processor.get("inputs", list(INPUTS[:2]))
    if not isinstance(names, list | tuple) or not names:
        raise BundleCorrupt(f"processor.inputs should be a list of names, got {names!r}.")
    for name in names:
        if name not in INPUTS:
            raise BundleVersion(
                f"processor.inputs asks for {name!r}; this edgekit makes {', '.join(INPUTS)}.",
                hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
            )
    return tuple(str(name) for name in names)


def _section(value: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise BundleCorrupt(f"processor.{key} should be an object, got {found!r}.")
    return found


def _whole(value: Mapping[str, object], key: str, default: int | None) -> int | None:
    found = value.get(key)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise BundleCorrupt(f"The processor's {key} should be a whole number, got {found!r}.")
    return found


def _choice(value: Mapping[str, object], key: str, choices: tuple[str, ...], default: str) -> str:
    found = value.get(key)
    if found is None:
        return default
    if found not in choices:
        raise BundleVersion(
            f"The processor's {key} is {found!r}; this edgekit knows {', '.join(choices)}.",
            hint="Upgrade edgekit on this device: pip install --upgrade edgekit-ml",
        )
    return str(found)


def _shorter(first: int | None, second: int | None) -> int | None:
    given = [value for value in (first, second) if value is not None]
    return min(given) if given else None


def _values(name: str, row: Encoding) -> list[int] | int:
    if name == "input_ids":
        return row.ids
    return 1 if name == "attention_mask" else row.type_ids


def _unpadded(name: str, row: Encoding) -> Ints:
    if name == "attention_mask":
        return np.ones((1, len(row)), dtype=np.int64)
    return np.array([_values(name, row)], dtype=np.int64)


def _shown(*text: object) -> str:
    shown = repr(text if len(text) > 1 else text[0])
    return shown if len(shown) <= 60 else shown[:57] + "…"
