"""Every family of models that generate, from PyTorch to a bundle, on both engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import edgekit
from edgekit.sources.families import ENGINES
from tests.text_models import FAMILIES, PROMPTS, save_generator

pytestmark = pytest.mark.slow

NEW = 64
ROWS = tuple(FAMILIES)
_ANSWERS = {"marian": "translation_text"}


@pytest.mark.parametrize("family", ROWS)
def test_greedy_answers_are_those_of_generate(family: str, tmp_path: Path) -> None:
    """Token for token, for one prompt and for four of different lengths, on both engines."""
    source = save_generator(family, tmp_path / "source")
    wanted_one = expected(family, source, PROMPTS[:1])
    wanted_four = expected(family, source, PROMPTS)
    made = edgekit.export(str(source), tmp_path / "bundle")
    assert made.task == FAMILIES[family].task
    options: Mapping[str, Any] = {
        "max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "num_beams": 1,
    }  # fmt: skip
    for engine in ENGINES:
        with edgekit.load(tmp_path / "bundle", engine=engine, threads=2) as model:
            assert all(row.passed for row in model.selftest())
            predictor: Any = model.predictor
            assert predictor.tokens(PROMPTS[0], **options) == wanted_one[0][0], engine
            more = {} if family in ("t5", "bart", "marian") else {"return_full_text": False}
            answers: Any = model(list(PROMPTS), batch_size=4, **options, **more)
        key = _ANSWERS.get(family, "generated_text")
        told = [(answer[0] if isinstance(answer, list) else answer)[key] for answer in answers]
        assert told == [text for _, text in wanted_four], engine


def expected(family: str, source: Path, prompts: tuple[str, ...]) -> list[tuple[list[int], str]]:
    """(the new tokens, their text) of transformers' generate for one batch of prompts."""
    import transformers

    seq2seq = FAMILIES[family].task == "text2text-generation"
    auto: Any = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        source, padding_side="right" if seq2seq else "left"
    )
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            num_beams=1,
        )
    given = 1 if seq2seq else batch["input_ids"].shape[1]
    return [
        (row[given:].tolist(), tokenizer.decode(row[given:], skip_special_tokens=True))
        for row in found
    ]
