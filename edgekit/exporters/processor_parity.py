"""The proof that the torch-free processor makes the same tensors as transformers' tokenizer."""

from __future__ import annotations

import contextlib
import logging
import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import EdgekitError, ExportError
from edgekit.runtime.text import Text, TextProcessor
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet
from edgekit.sources.samples import SAMPLE_PAIRS, SAMPLE_TEXTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS = (
    *SAMPLE_TEXTS,
    "",
    " ",
    "a",
    "  two  spaces\tand\ta tab \n\n a new line \r\n and one more  ",
    "no-break\u00a0space, thin\u2009space, zero\u200bwidth, line\u2028separator, bom\ufeff",
    "control \x00 \x07 \x1b \x7f \x85 characters and the replacement \ufffd",
    "😀 👍🏽 👩\u200d👩\u200d👧\u200d👦 🇩🇪 ❤️ ☕︎",
    "e\u0301 and é, Å and A\u030a, ﬁ ligature, ½, ², Ⅷ, ﷺ",
    "ÀÉÎÕÜ straße STRASSE İstanbul ıI Σίσυφος ὈΔΥΣΣΕΎΣ",
    "中文和English混排，日本語のテキスト、カタカナ、ひらがな。 한국어 문장입니다.",
    "ภาษาไทยไม่มีช่องว่าง ភាសាខ្មែរ မြန်မာဘာသာ ދިވެހި አማርኛ ქართული Հայերեն",
    "עברית עם ניקוד: שָׁלוֹם, العربية مع تشكيل: سَلَامٌ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉 𐍈 𠜎 𠮷",
    "don't, it's, we'll; o'clock 'quoted' \"double\" “curly” ‘single’ `` '' … — – -",
    "http://example.org/a?b=c&d=%20#e user@example.com C++ C# .NET v1.2.3 $9.99 50% #tag @name",
    "CamelCase snake_case kebab-case SCREAMING_CASE x=y+z*(a/b)^2 [i][j] {k: v}",
    "1234567890 3.14159 1,000,000 1e-5 0x1F 2026-11-22T10:30:00Z",
    "antidisestablishmentarianismpneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "Ünïcödé" * 40,
)
# Ranges that random strings are drawn from: scripts, symbols, spaces, astral planes.
_RANGES = (
    (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
    (0x900, 0xDFF), (0xE00, 0xFFF), (0x1E00, 0x206F), (0x20A0, 0x27BF), (0x3040, 0x30FF),
    (0x4E00, 0x4FFF), (0xAC00, 0xAFFF), (0xFF00, 0xFFEF), (0x1F300, 0x1FAFF),
)  # fmt: skip
_RANDOM_TEXTS = 48


def check_processor(source: LoadedSource, processor: Mapping[str, object], directory: Path) -> int:
    """Compare both on scripts, emoji, spaces, lengths, special tokens, pairs; the texts compared.

    Raises ExportError with the first text whose tensors differ.
    """
    tokenizer = source.tokenizer
    assert tokenizer is not None
    try:
        ours = TextProcessor(processor, directory)
    except EdgekitError as error:
        raise ExportError(
            f"The written tokenizer does not load: {error.message}", hint=error.hint
        ) from error
    texts = texts_to_compare(tokenizer, source.max_length or 512)
    with quiet(), silent_truncation():
        if ours.rules.windows:
            return _check_windows(tokenizer, ours, _pairs(texts))
        for text in texts:
            _check(tokenizer, ours, [text])
        # Rows of every length in one batch: padding and truncation together.
        _check(tokenizer, ours, texts)
        pairs = _pairs(texts)
        if not tokenizer.is_fast:
            # Where both texts of a pair are cut, transformers' own Python and Rust code differ by
            # a token; what ships is the Rust one.
            pairs = [pair for pair in pairs if _length(tokenizer, pair) <= (ours.max_length or 0)]
        for pair in pairs:
            _check(tokenizer, ours, [pair])
        _check(tokenizer, ours, pairs)
    return len(texts) + len(pairs)


@contextlib.contextmanager
def silent_truncation() -> Iterator[None]:
    """Without the runtime's word that a text or a sound was cut: here it is meant to be."""
    logger = logging.getLogger("edgekit")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def texts_to_compare(tokenizer: PreTrainedTokenizerBase, length: int) -> list[str]:
    """Scripts, emoji, spaces, special tokens and lengths around the limit, for comparisons."""
    specials = [str(token) for token in tokenizer.all_special_tokens]
    written = [
        f"A {' '.join(specials)} b",
        "".join(specials),
        *(f"before{token}after, {token.lower()} and  {token} ." for token in specials),
    ]
    words = " ".join(SAMPLE_TEXTS)
    # Just around the limit, and beyond it.
    edge = ["a " * count for count in (length - 3, length - 2, length - 1, length)]
    overlong = [(words * (1 + length // 32))[: 4 * length], "a word " * length]
    return [*_TEXTS, *written, *edge, *overlong, *_random_texts()]


def _random_texts() -> list[str]:
    generator = random.Random(20261122)
    texts = []
    for _ in range(_RANDOM_TEXTS):
        size = generator.randint(1, 40)
        ranges = generator.sample(_RANGES, 3)
        letters = (chr(generator.randint(*generator.choice(ranges))) for _ in range(size))
        # What is not assigned yet is no text, and Unicode versions differ about it.
        texts.append("".join(one for one in letters if unicodedata.category(one)[0] != "C"))
    return texts


def _pairs(texts: Sequence[str]) -> list[Text]:
    """Neighbours as pairs, both orders of long and short among them; none with an empty part."""
    filled = [text for text in texts if text.strip()]
    # Two long texts overflow in every combination of their pieces: one of them at a time.
    longest = max(filled, key=len)
    cut = [(first, second[:200]) for first, second in pairwise(filled)]
    return [*zip(SAMPLE_TEXTS, SAMPLE_PAIRS, strict=True), *cut, (SAMPLE_TEXTS[0], longest)]


def _length(tokenizer: PreTrainedTokenizerBase, pair: Text) -> int:
    return len(tokenizer(pair[0], pair[1])["input_ids"])


def _check(tokenizer: PreTrainedTokenizerBase, ours: TextProcessor, texts: Sequence[Text]) -> None:
    firsts = [text if isinstance(text, str) else text[0] for text in texts]
    seconds = None if isinstance(texts[0], str) else [text[1] for text in texts]
    theirs = tokenizer(
        firsts,
        seconds,
        padding=True,
        truncation=True,
        max_length=ours.max_length,
        return_tensors="np",
    )
    _same(theirs, ours.encode(texts).feeds, texts)


def _check_windows(
    tokenizer: PreTrainedTokenizerBase, ours: TextProcessor, pairs: Sequence[Text]
) -> int:
    rules = ours.rules
    compared = 0
    for pair in pairs:
        try:
            encoded = ours.encode([pair])
        except EdgekitError:
            # A question that leaves no room for its context is refused by both.
            continue
        theirs = tokenizer(
            [pair[0]],
            [pair[1]],
            padding=True,
            truncation=rules.strategy,
            max_length=ours.max_length,
            stride=rules.stride,
            return_overflowing_tokens=True,
            return_tensors="np",
        )
        _same(theirs, encoded.feeds, [pair])
        compared += 1
    return compared


def _same(
    theirs: Mapping[str, object], ours: Mapping[str, np.ndarray], texts: Sequence[Text]
) -> None:
    for name, array in ours.items():
        wanted = np.asarray(theirs[name])
        if wanted.shape == array.shape and (wanted == array).all():
            continue
        row = 0
        if wanted.shape == array.shape:
            row = int(np.argwhere((wanted != array).any(axis=1))[0, 0])
        text = repr(texts[min(row, len(texts) - 1)])
        raise ExportError(
            f"tokenizers alone encodes {text[:120]} differently from transformers: {name} is"
            f" {array[row][:12].tolist()}… ({array.shape[1]} tokens) instead of"
            f" {wanted[row][:12].tolist()}… ({wanted.shape[1]}).",
            hint="The tokenizer does something in Python that tokenizer.json cannot say; save a"
            " fast version of it into the model's folder.",
        )
