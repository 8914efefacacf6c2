"""`validate` and `quantize --data` on models that generate: the bundle and its checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import transformers

import edgekit
from benchmarks.zoo import fetch
from edgekit.core.measurements import ValidateResult
from edgekit.core.results import to_json
from edgekit.evaluation.accuracy import evaluate
from edgekit.evaluation.generation.original import Original
from edgekit.pipeline.choices.judging import Judge
from edgekit.sources.data import read_samples
from edgekit.sources.families import ENGINES
from edgekit.sources.opening import open_reference
from edgekit.sources.sounds import compose
from tests.conftest import make_once
from tests.models import CORPUS
from tests.schemas import check_schema_of
from tests.test_speech import exported
from tests.text_models import CONTEXT, save_generator

pytestmark = pytest.mark.slow

NEW = 24


def saved(family: str, folder: Path) -> Path:
    """A family's random model, which says so many words and no more."""
    path = save_generator(family, folder) / "generation_config.json"
    if family == "marian":
        _listen(folder)
    # Its head is its embedding: it would say the padding that it begins with over and over.
    said = {
        "suppress_tokens": [0, 1, 2],
        # Marian's own end is one of them.
        "forced_eos_token_id": None,
        "no_repeat_ngram_size": 2,
        "max_new_tokens": NEW,
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    return folder


def _listen(folder: Path) -> None:
    """Let what it says hang on what it reads, as it hardly does with random weights."""
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            layer.encoder_attn.v_proj.weight.mul_(20)
            layer.encoder_attn.out_proj.weight.mul_(20)
    model.save_pretrained(folder)


def made(shared: Path, family: str) -> tuple[Path, Path]:
    """The source and the bundle of a family of texts, made once."""
    source = make_once(shared / f"judged-{family}-source", lambda path: saved(family, path))
    bundle = make_once(shared / f"judged-{family}", lambda path: edgekit.export(str(source), path))
    return source, bundle


def table(path: Path, rows: Sequence[dict[str, str]]) -> str:
    """Rows as JSON lines; the path as DATA."""
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def perplexity(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """e to the mean surprise of whole texts, each by itself, by transformers' own loss."""
    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        if ids.shape[1] > 1:
            with torch.inference_mode():
                loss = model(input_ids=ids, labels=ids).loss
            total += float(loss) * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return math.exp(total / count)


def sentences(count: int) -> list[str]:
    """Different texts of several lengths, an empty one among them."""
    return ["", *(" ".join(CORPUS[at % 7 : at % 7 + 1 + at % 4]) + f" {at}" for at in range(count))]


def test_a_decoder_is_judged_by_its_perplexity(shared: Path, tmp_path: Path) -> None:
    """That of PyTorch to 4 digits; one text is longer than the context, some are empty."""
    source, bundle = made(shared, "llama")
    texts = sentences(60)
    data = table(tmp_path / "d.jsonl", [{"text": text} for text in texts])
    worst = tmp_path / "worst.jsonl"
    found = edgekit.validate(
        bundle, reference=str(source), data=data, latency=False, worst=worst, worst_count=5
    )
    assert found.verdict == "pass"
    check_schema_of("validate", {**to_json(found), "command": None})  # type: ignore[dict-item]
    assert len(worst.read_text().splitlines()) == 5
    rows = read_samples(data, "text-generation", role="verdict").inputs
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)
    expected = perplexity(model, tokenizer, [str(row["text"]) for row in rows])
    assert found.accuracy is not None
    assert found.accuracy.metric == "perplexity"
    assert found.accuracy.reference == pytest.approx(expected, rel=1e-4)
    assert found.accuracy.candidate == pytest.approx(expected, rel=1e-4)
    assert found.numerics["logits"].argmax_agreement == pytest.approx(1, abs=0.01)
    long = " ".join(CORPUS) * 8
    assert len(tokenizer(long)["input_ids"]) > CONTEXT
    data = table(tmp_path / "l.jsonl", [{"text": text} for text in (*texts[:9], long)])
    samples, reference = read_samples(data, "text-generation"), open_reference(str(source))
    for engine in ENGINES:
        with edgekit.load(bundle, engine=engine, threads=2) as opened:
            judged = evaluate(opened, reference, samples)
        assert judged.accuracy.candidate == pytest.approx(judged.accuracy.reference, rel=1e-4)
        assert any(f"windows of {CONTEXT} tokens" in note for note in judged.notes)


def test_a_decoder_is_rounded_within_a_budget(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its perplexity, on rows that no choice has seen; its speed is others' matter."""
    monkeypatch.setattr(Judge, "against_input", lambda self, candidate: None)
    source, bundle = made(shared, "llama")
    data = table(tmp_path / "d.jsonl", [{"text": text} for text in sentences(90)])
    found = edgekit.quantize(
        bundle, tmp_path / "q", data=data, reference=str(source), max_drop="10%"
    )
    assert (found.method, found.bits) == ("weight-int8", 8)
    assert found.accuracy is not None
    assert found.accuracy.metric == "perplexity"
    assert found.accuracy.samples >= 30
    assert found.accuracy.drop_upper_95 <= 0.1


def test_an_encoder_and_its_decoder_are_rounded_within_a_budget(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two ways to 4 bits none is timed before the other, and the original answers once."""
    asked: list[int] = []
    real = Original.asked

    def counting(self: Original, what: str, trial: Any) -> Any:
        asked.append(1 if what == "a text" else int(what.split()[0]))
        return real(self, what, trial)

    monkeypatch.setattr(Original, "asked", counting)
    monkeypatch.setattr(Judge, "against_input", lambda self, candidate: None)
    source, bundle = made(shared, "marian")
    data = table(tmp_path / "d.jsonl", [{"source": text} for text in sentences(90) if text])
    found = edgekit.quantize(
        bundle, tmp_path / "q", engine="onnxruntime", bits=4, data=data, reference=str(source),
        max_drop="100%",
    )  # fmt: skip
    assert found.bits == 4
    assert found.accuracy is not None
    assert found.accuracy.metric == "text-agreement"
    search = read_samples(data, "text2text-generation", role="search")
    assert sum(asked) == len(search) + found.accuracy.samples


def test_a_task_has_its_own_options_on_both_sides(shared: Path, tmp_path: Path) -> None:
    """What the checkpoint sets for a task that was named holds for its original as well."""
    source = make_once(shared / "judged-t5-source", _with_a_task)
    bundle = tmp_path / "b"
    edgekit.export(str(source), bundle, task="summarization")
    data = table(tmp_path / "d.jsonl", [{"source": text} for text in sentences(20) if text])
    samples, reference = read_samples(data, "text2text-generation"), open_reference(str(source))
    with edgekit.load(bundle, threads=2) as model:
        alike = evaluate(model, reference, samples)
        (answer,) = model(["A text."])
        (free,) = model(["A text."], no_repeat_ngram_size=0)
    assert alike.accuracy.candidate == 1.0
    assert answer != free


def _with_a_task(folder: Path) -> None:
    saved("t5", folder)
    path = folder / "config.json"
    told = {"prefix": "say: ", "no_repeat_ngram_size": 1, "num_beams": 2}
    config = {**json.loads(path.read_text()), "task_specific_params": {"summarization": told}}
    path.write_text(json.dumps(config))


def test_answers_are_judged_by_what_they_should_be(shared: Path, tmp_path: Path) -> None:
    """By chrF and BLEU; without targets by agreement; what is too long is left out."""
    source, bundle = made(shared, "marian")
    texts = [text for text in sentences(60) if text]
    with edgekit.load(bundle, threads=2) as model:
        said: Any = model(texts)
    answers = [one["translation_text"] for one in said]
    assert len(set(answers)) > 1
    rows = [
        {"source": text, "target": f"{answer[: 3 + at % 40]} end"}
        for at, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    data = table(tmp_path / "d.jsonl", rows)
    for metric in ("chrf", "bleu"):
        found = judged(bundle, source, data, metric=metric)
        assert found.accuracy is not None
        assert found.accuracy.metric == metric
        assert found.accuracy.drop == 0
        assert 0 <= found.accuracy.reference < 1
    # Without DATA the golden inputs are compared, of both components; whole answers are timed.
    golden = edgekit.validate(bundle, reference=str(source), budget=1.0, processes=2)
    assert golden.verdict == "pass"
    assert golden.timing is not None
    assert {row.new_tokens for row in golden.timing.contenders} == {32}
    assert {"decoder.logits", "encoder.present.0.encoder.key"} <= golden.numerics.keys()
    long = {"source": " ".join(CORPUS) * 8}
    data = table(tmp_path / "u.jsonl", [*({"source": text} for text in texts), long])
    samples, reference = read_samples(data, "text2text-generation"), open_reference(str(source))
    for engine in ENGINES:
        with edgekit.load(bundle, engine=engine, threads=2) as model:
            alike = evaluate(model, reference, samples)
        assert (alike.accuracy.metric, alike.accuracy.candidate) == ("text-agreement", 1.0)
        assert alike.accuracy.samples == len(texts)
        assert alike.worst == ()
        assert any("1 is left out: the model reads at most" in note for note in alike.notes)


def judged(bundle: Path, source: Path, data: str, **options: Any) -> ValidateResult:
    """A validation that may end without a verdict: too few rows for a bound, nothing else."""
    try:
        return edgekit.validate(
            bundle, reference=str(source), data=data, max_drop="20pt", latency=False, **options
        )
    except edgekit.BudgetNotMet as error:
        found = error.result
    assert isinstance(found, ValidateResult)
    assert found.verdict == "inconclusive"
    return found


def test_other_weights_answer_otherwise(shared: Path, tmp_path: Path) -> None:
    """A bundle of another model fails, and the worst texts are those whose answers differ."""
    _, bundle = made(shared, "marian")
    torch.manual_seed(11)
    source = saved("marian", tmp_path / "other")
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(source)
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(0.0, 0.5)
    model.save_pretrained(source)
    data = table(tmp_path / "d.jsonl", [{"source": text} for text in sentences(60) if text])
    with pytest.raises(edgekit.BudgetNotMet) as caught:
        edgekit.validate(
            bundle, reference=str(source), data=data, latency=False, allow_other_reference=True
        )
    found = caught.value.result
    assert isinstance(found, ValidateResult)
    assert found.verdict == "fail"
    assert found.worst[0].changed
    assert found.worst[0].distance > 0
    assert found.worst[0].reference != found.worst[0].candidate


def test_transcripts_are_judged_by_their_words(shared: Path, tmp_path: Path) -> None:
    """Whisper's against a transcription, and without one against PyTorch's; on both engines."""
    source, bundle = exported(shared, "english")
    rows = []
    for at in range(8):
        soundfile.write(tmp_path / f"{at}.wav", compose(9_000 + 2_500 * at, at), 16_000)
        rows.append({"audio": f"{at}.wav", "transcription": f"some words {at}"})
    # Longer than a window of two seconds.
    soundfile.write(tmp_path / "long.wav", compose(5 * 16_000, 3), 16_000)
    rows.append({"audio": "long.wav", "transcription": "many more words than these"})
    reference = open_reference(str(source))
    for labelled in (True, False):
        kept = rows if labelled else [{"audio": row["audio"]} for row in rows]
        data = table(tmp_path / "d.jsonl", kept)
        samples = read_samples(data, "automatic-speech-recognition")
        for engine in ENGINES:
            with edgekit.load(bundle, engine=engine, threads=2) as model:
                metric = None if labelled else "text-agreement"
                found = evaluate(model, reference, samples, metric=metric)
            if labelled:
                assert found.accuracy.metric == "wer"
                assert found.accuracy.drop == 0
            else:
                assert found.accuracy.candidate == 1
            assert "1 sound is longer than a window, and heard in several." in found.notes


def test_smollm2_foretells_brown_as_in_pytorch(shared: Path) -> None:
    """The perplexity of the real model on a dozen texts, to 4 digits, on both engines."""
    source, data = fetch("smollm2"), fetch("brown")
    bundle = make_once(shared / "smollm2", lambda folder: edgekit.export(str(source), folder))
    samples = read_samples(str(data / "brown.csv"), "text-generation", limit=12)
    reference = open_reference(str(source), task="text-generation")
    tokenizer: Any = reference.tokenizer
    texts = [str(row["text"]) for row in samples.inputs]
    expected = perplexity(reference.module.model, tokenizer, texts)
    assert 5 < expected < 100
    for engine in ENGINES:
        with edgekit.load(bundle, engine=engine, threads=2) as model:
            found = evaluate(model, reference, samples).accuracy
        assert found.candidate == pytest.approx(expected, rel=1e-4)
        assert found.reference == pytest.approx(expected, rel=1e-4)
