"""The tokenizer of a model that generates, proved to read and to write as transformers' does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import ExportError
from edgekit.exporters.processor_parity import silent_truncation, texts_to_compare
from edgekit.exporters.processors import TOKENIZER_FILE, write_tokenizer
from edgekit.runtime.generation.pieces import clean
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LONGEST = 512
_ANSWERS = 64
_HINT = (
    "The tokenizer does something in Python that tokenizer.json cannot say; save a fast version of"
    " it into the model's folder."
)

_FORCED = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"

Facts = dict[str, str | int | float | bool]
#: What such a processor consists of.
FILES = ((TOKENIZER_FILE, "processor"),)


def build_text_processor(
    source: LoadedSource, directory: Path
) -> tuple[dict[str, object], tuple[tuple[str, str], ...], Facts]:
    """The processor, its files, and how many texts were compared. Raises ExportError."""
    tokenizer: Any = source.tokenizer
    write_tokenizer(tokenizer, directory / TOKENIZER_FILE)
    compared = check_tokenizer(tokenizer, directory / TOKENIZER_FILE)
    return described("text"), FILES, {"processor_texts_compared": compared}


def described(reads: str, **more: object) -> dict[str, object]:
    """The processor of a model that generates from what it `reads`, as a manifest holds it."""
    return {"kind": "generation", "input": reads, "tokenizer": TOKENIZER_FILE, **more}


def check_tokenizer(tokenizer: Any, path: Path) -> int:
    """Compare texts to ids and ids to texts with transformers; how many texts there were.

    Raises ExportError with the first that differs.
    """
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(path))
    texts = texts_to_compare(tokenizer, min(int(tokenizer.model_max_length), _LONGEST))
    with quiet(), silent_truncation():
        for text in texts:
            wanted, got = tokenizer(text)["input_ids"], ours.encode(text).ids
            if wanted != got:
                raise ExportError(
                    f"tokenizers alone encodes {text[:120]!r} differently from transformers:"
                    f" {got[:12]}… ({len(got)} tokens) instead of {wanted[:12]}… ({len(wanted)}"
                    " tokens).",
                    hint=_HINT,
                )
    answers = [ours.encode(text).ids for text in texts] + random_answers(range(len(tokenizer)))
    cleans = takes_spaces_out(tokenizer)
    return len(texts) + check_spelling(tokenizer, ours, answers, cleans=cleans)


def check_spelling(
    tokenizer: Any,
    ours: Tokenizer,
    answers: Sequence[Sequence[int]],
    *,
    special: bool = False,
    cleans: bool = False,
) -> int:
    """Compare ids to texts with transformers; how many there were.

    `special`: special tokens are spelled out, too. `cleans`: the runtime takes spaces out. Raises
    ExportError with the first that differs.
    """
    with quiet():
        for ids in answers:
            said = tokenizer.decode(ids, skip_special_tokens=not special)
            spelt = ours.decode(ids, skip_special_tokens=not special)
            if cleans:
                spelt = clean(spelt)
            if said != spelt:
                raise ExportError(
                    f"tokenizers alone spells the tokens {list(ids[:12])}… as {spelt[:80]!r};"
                    f" transformers as {said[:80]!r}.",
                    hint=_HINT,
                )
    return len(answers)


def takes_spaces_out(tokenizer: Any) -> bool:
    """Whether transformers takes the spaces before punctuation out of what it decodes.

    Of byte pairs it does not do what ``clean_up_tokenization_spaces`` says, unless it is forced to.
    """
    if not getattr(tokenizer, "clean_up_tokenization_spaces", False):
        return False
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ != "BPE":
        return True
    return bool(getattr(tokenizer, _FORCED, False))


def random_answers(words: Sequence[int]) -> list[list[int]]:
    """Answers of some of the tokens, always the same ones."""
    generator = random.Random(20261123)
    return [generator.choices(words, k=generator.randint(1, 24)) for _ in range(_ANSWERS)]
