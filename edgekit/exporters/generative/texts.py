"""The tokenizer of a model that generates, proved to read and to write as transformers' does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from edgekit.core.errors import ExportError
from edgekit.exporters.processor_parity import silent_truncation, texts_to_compare
from edgekit.exporters.processors import TOKENIZER_FILE, write_tokenizer
from edgekit.runtime.generation.pieces import clean
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.quiet import quiet

_LONGEST = 512
_ANSWERS = 64
_HINT = (
    "The tokenizer does something in Python that tokenizer.json cannot say; save a fast version of"
    " it into the model's folder."
)

_FORCED = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"

Facts = dict[str, str | int | float | bool]


def build_text_processor(
    source: LoadedSource, directory: Path
) -> tuple[dict[str, object], tuple[tuple[str, str], ...], Facts]:
    """The processor, its files, and how many texts were compared. Raises ExportError."""
    tokenizer: Any = source.tokenizer
    write_tokenizer(tokenizer, directory / TOKENIZER_FILE)
    processor: dict[str, object] = {
        "kind": "generation", "input": "text", "tokenizer": TOKENIZER_FILE,
    }  # fmt: skip
    compared = check_tokenizer(tokenizer, directory / TOKENIZER_FILE)
    return (
        processor,
        ((TOKENIZER_FILE, "processor"),),
        {"processor_texts_compared": compared},
    )


def check_tokenizer(tokenizer: Any, path: Path) -> int:
    """Compare texts to ids and ids to texts with transformers; how many texts there were.

    Raises ExportError with the first that differs.
    """
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(path))
    cleans = takes_spaces_out(tokenizer)
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
        answers = [ours.encode(text).ids for text in texts] + _random_answers(len(tokenizer))
        for ids in answers:
            said = tokenizer.decode(ids, skip_special_tokens=True)
            spelt = ours.decode(ids, skip_special_tokens=True)
            if cleans:
                spelt = clean(spelt)
            if said != spelt:
                raise ExportError(
                    f"tokenizers alone spells the tokens {ids[:12]}… as {spelt[:80]!r};"
                    f" transformers as {said[:80]!r}.",
                    hint=_HINT,
                )
    return len(texts) + len(answers)


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


def _random_answers(vocabulary: int) -> list[list[int]]:
    generator = random.Random(20261123)
    return [
        [generator.randrange(vocabulary) for _ in range(generator.randint(1, 24))]
        for _ in range(_ANSWERS)
    ]
