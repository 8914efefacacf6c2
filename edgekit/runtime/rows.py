"""Rows of tokens to measure with: real English cut to exactly a length, or a user's own texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.core.errors import ConfigError
from edgekit.runtime.text import Encoding, Text, TextProcessor

# Other beginnings that are tried for a row whose text does not come back as the same tokens.
_BEGINNINGS = 16

PASSAGE = (
    "The ferry left the harbour a little after six, when the fog was still lying on the water and"
    " the gulls had not begun to argue over the nets. On deck a woman in a grey coat was reading"
    " a letter for the third time. She folded it, looked back at the lamps along the quay, and"
    " asked the boy beside her whether he had remembered the key. He had not. It hung where it"
    " always did, behind the kitchen door, between a calendar from the bank and last year's"
    " wreath. So they would have to wake the neighbour, who slept badly, and who would tell them"
    " again that a house by the sea needs somebody in it through the winter. By the time the"
    " island came out of the haze, low and brown like a loaf, they had agreed on a story, and the"
    " story was better than the truth: the lock had been changed, the post was slow, and nobody"
    " could be blamed. The engines slowed. A rope flew across, a man caught it without looking,"
    " and the whole boat leaned once against the old tyres and was still."
)


def passage_rows(
    maker: TextProcessor, post: Mapping[str, object], batch: int, length: int
) -> tuple[list[Encoding], tuple[Text, ...] | None]:
    """`batch` rows of exactly `length` tokens, and the texts that tokenize to just these rows.

    Each row is the passage from another word on, repeated as needed. The texts are None where no
    cut of it comes back as the same tokens. `maker` is told other lengths than the bundle's, and
    no other caller may use it.

    Raises ConfigError when the tokenizer cannot fill a row.
    """
    rows: list[Encoding] = []
    texts: list[Text] = []
    for row in range(batch):
        whole: Text | None = None
        fallback: Encoding | None = None
        for beginning in range(_BEGINNINGS):
            encoding, text = _row(maker, post, row * 7 + beginning, length)
            fallback = fallback or encoding
            if _size(maker, text) == length:
                rows.append(encoding)
                whole = text
                break
        if whole is not None:
            texts.append(whole)
        elif fallback is not None:
            rows.append(fallback)
    return rows, tuple(texts) if len(texts) == batch else None


def _row(
    maker: TextProcessor, post: Mapping[str, object], start: int, length: int
) -> tuple[Encoding, Text]:
    """One row and its text, cut where the row's last token ends."""
    words = PASSAGE.split()
    turned = words[start % len(words) :] + words[: start % len(words)]
    mask = post.get("mask_token_id")
    if post.get("kind") == "fill-mask" and isinstance(mask, int):
        turned[0] = str(maker.tokenizer.id_to_token(mask))
    pair = post.get("kind") == "question-answering"
    question = " ".join(turned[: max(1, min(8, length // 8))])
    maker.tokenizer.enable_truncation(length, strategy="longest_first")
    repeat = 1 + length // len(words)
    # A word is a token or more, but for a tokenizer that merges whole phrases.
    for _ in range(8):
        text = " ".join(turned * repeat)
        parts = (question, text) if pair else (text,)
        encoding: Encoding = maker.tokenizer.encode(*parts)
        if len(encoding) == length:
            last = len(parts) - 1
            end = max(
                (
                    offsets[1]
                    for offsets, part in zip(encoding.offsets, encoding.sequence_ids, strict=True)
                    if part == last
                ),
                default=0,
            )
            return encoding, (question, text[:end]) if pair else text[:end]
        repeat *= 2
    raise ConfigError(
        f"The tokenizer gives no row of exactly {length} tokens.", hint="Choose a longer --length."
    )


def _size(maker: TextProcessor, text: Text) -> int:
    """The tokens of a text that nothing cuts."""
    maker.tokenizer.no_truncation()
    parts = (text,) if isinstance(text, str) else text
    return len(maker.tokenizer.encode(*parts))


def text_rows(
    maker: TextProcessor, texts: Sequence[Text]
) -> tuple[list[Encoding], tuple[Text, ...] | None]:
    """The rows of a user's texts, and the texts when each of them is one row.

    Raises InputMismatch for a text that cannot be tokenized.
    """
    rows: list[Encoding] = []
    for text in texts:
        rows += maker.tokenize(text)
    return rows, tuple(texts) if len(rows) == len(texts) else None
