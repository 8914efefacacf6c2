"""Models with an encoder and a decoder: what is cut of the encoder, and what answers still."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import PruneError
from edgekit.pruning import feeding
from edgekit.pruning.distances import answers_of
from edgekit.pruning.feeding import batches
from edgekit.pruning.importance import METHODS, scores
from edgekit.pruning.reconstruction import repair
from edgekit.pruning.structures import cut, layers_of, structures_of
from edgekit.sources.data import Samples
from edgekit.sources.families import ENGINES
from edgekit.sources.generation.answers import whole_answers
from edgekit.sources.generation.whole import ANSWER, FORETELLING, next_token_losses
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pruned.cutting import input_weight, whole_plan
from edgekit.sources.pruned.plan import read_plan
from edgekit.sources.sounds import compose
from tests.pruning.generators import (
    ANSWERING,
    alike,
    answering,
    asked,
    check_saved,
    check_stated,
    questions,
    sounds,
    unlike,
    written,
)
from tests.sources.pruned.masking import masked
from tests.test_speech import Theirs
from tests.text_models import PROMPTS

TEXTS = ANSWERING[:3]
METHODS_OF = [(family, method) for family in ("t5", "bart") for method in METHODS]
SHORT = 6
NEW = 24


def rows_for(family: str, folder: Path, count: int) -> Samples:
    """Texts with answers, or sounds."""
    if family == "whisper":
        return asked(sounds(folder / "sounds", count))
    return asked(questions(folder, count))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of few tokens: those of sounds are the model's own, and take long to write."""
    monkeypatch.setattr(feeding, "_LONGEST_ANSWER", SHORT)


def said(source: LoadedSource) -> torch.Tensor:
    """The logits of whole answers."""
    whole = source if ANSWER in source.sample_inputs else whole_answers(source)
    with torch.inference_mode():
        found: torch.Tensor = whole.module(**whole.sample_inputs)["logits"]
    return found


@pytest.mark.parametrize("family", ANSWERING)
def test_all_three_structures_are_there(family: str, tmp_path: Path) -> None:
    """Those of the encoder."""
    source = answering(tmp_path, family)
    assert structures_of(source) == ("heads", "ffn", "layers")
    sizes = (2, 64) if family == "whisper" else (4, 48)
    assert [(row.heads, row.ffn) for row in layers_of(source).layers] == [sizes] * 3
    with pytest.raises(PruneError, match=f"A {family} model is not pruned for feature-extraction"):
        structures_of(replace(source, task="feature-extraction", parts={}))


@pytest.mark.parametrize("family", ANSWERING)
def test_it_answers_as_the_masked_original(family: str, tmp_path: Path) -> None:
    """With the whole of it, and in two components with their caches."""
    source = answering(tmp_path, family)
    plan = unlike(source)
    with masked(source.module.model, plan):
        expected = said(source)
    pruned = cut(source, plan)
    assert list(pruned.parts) == ["encoder", "decoder"]
    torch.testing.assert_close(said(pruned), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(said(source), expected, atol=1e-2)
    model: Any = pruned.module.model
    feeds = pruned.parts["encoder"].sample_inputs
    written_down = model.generate(**feeds, max_new_tokens=4, do_sample=False, num_beams=1)
    assert len(written_down) == len(next(iter(feeds.values())))


@pytest.mark.parametrize("family", ANSWERING)
def test_a_folder_of_unlike_layers(family: str, tmp_path: Path) -> None:
    """It opens as the model that was cut, with its embeddings tied as they were."""
    source = answering(tmp_path, family)
    plan = unlike(source)
    opened = written(source, plan, tmp_path / "pruned")
    torch.testing.assert_close(said(opened), said(cut(source, plan)), atol=1e-5, rtol=1e-5)
    assert opened.origin is not None
    assert opened.origin.sha256 == source.sha256 != opened.sha256
    assert opened.parameters == cut(source, plan).parameters < source.parameters
    model: Any = opened.module.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_config_says_what_is_its_encoders_own(tmp_path: Path) -> None:
    """Width and layers of BART's, whatever else the config calls them; of T5's nothing."""
    source = answering(tmp_path / "bart")
    config = tmp_path / "bart" / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": 3}))
    whole = whole_plan(source)
    rows = tuple(replace(row, kept_ffn=tuple(range(8, 32))) for row in whole.layers)
    plan = replace(whole, layers=rows, kept_layers=(0, 2))
    opened = written(source, plan, tmp_path / "pruned")
    assert read_plan(tmp_path / "pruned").written
    torch.testing.assert_close(said(opened), said(cut(source, plan)), atol=1e-5, rtol=1e-5)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "pruned")
    assert (model.config.encoder_layers, model.config.decoder_layers) == (2, 3)
    assert (model.config.encoder_ffn_dim, model.config.decoder_ffn_dim) == (24, 48)
    other = answering(tmp_path / "t5", "t5")
    plan = replace(whole_plan(other), kept_layers=(0, 2))
    opened = written(other, plan, tmp_path / "shorter")
    assert not read_plan(tmp_path / "shorter").written
    torch.testing.assert_close(said(opened), said(cut(other, plan)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TEXTS)
def test_a_loss_is_that_of_the_answers(family: str, tmp_path: Path) -> None:
    """transformers' own, of each answer in DATA by itself."""
    source = whole_answers(answering(tmp_path, family))
    batch = batches(source, asked(questions(tmp_path, 6)), 6)[0]
    read = batch.inputs["attention_mask"].sum(1).tolist()
    told = batch.inputs[FORETELLING].sum(1).tolist()
    assert len(set(told)) > 1
    with torch.inference_mode():
        sums, counts = next_token_losses(source.module(**batch.inputs)["logits"], batch.inputs)
        for row, (length, tokens) in enumerate(zip(read, told, strict=True)):
            alone = source.module.model(
                input_ids=batch.inputs["input_ids"][row : row + 1, :length],
                labels=batch.inputs[ANSWER][row : row + 1, 1 : 1 + tokens],
            ).loss
            assert float(sums[row] / counts[row]) == pytest.approx(float(alone), rel=1e-4)
    assert counts.tolist() == told


@pytest.mark.usefixtures("short")
def test_without_answers_it_learns_its_own(tmp_path: Path) -> None:
    """What generate writes, up to the token that ends it."""
    source = whole_answers(answering(tmp_path, "t5"))
    model: Any = source.module.model
    path = questions(tmp_path, 6, answers=False)
    batch = batches(source, asked(path), 6)[0]
    first = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    wanted = model.generate(
        input_ids=first[0], attention_mask=first[1], max_new_tokens=SHORT, do_sample=False
    )
    found = batch.inputs[ANSWER]
    for row, tokens in enumerate(batch.inputs[FORETELLING].sum(1).tolist()):
        assert found[row, : tokens + 1].tolist() == wanted[row, : tokens + 1].tolist()
    # Now each answer ends at once.
    model.generation_config.eos_token_id = int(wanted[0, 1])
    again = batches(source, asked(path), 6)[0]
    assert int(again.inputs[FORETELLING][0].sum()) == 1


@pytest.mark.usefixtures("short")
def test_of_sounds_it_learns_its_own(tmp_path: Path) -> None:
    """What was asked of them (the language, the task) is a part of each answer."""
    source = whole_answers(answering(tmp_path, "whisper"))
    model: Any = source.module.model
    tokenizer: Any = source.tokenizer
    made = batches(source, asked(sounds(tmp_path / "sounds", 6)), 16)
    assert [len(one) for one in made] == [4, 2]
    first = made[0].inputs
    wanted = model.generate(first["input_features"], max_new_tokens=SHORT, do_sample=False)
    told = tokenizer.batch_decode(wanted, skip_special_tokens=True)
    counts = first[FORETELLING].sum(1).tolist()
    for row, tokens, text in zip(first[ANSWER].tolist(), counts, told, strict=True):
        answer = row[: tokens + 1]
        assert tokenizer.decode(answer[:1]) == "<|startoftranscript|>"
        assert "<|notimestamps|>" in tokenizer.convert_ids_to_tokens(answer[:4])
        assert tokenizer.decode(answer, skip_special_tokens=True) == text


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("family", "method"), [*METHODS_OF, ("whisper", "fisher")])
def test_what_does_nothing_is_worth_nothing(family: str, method: str, tmp_path: Path) -> None:
    """A head and a neuron without effect; the answers are the labels."""
    source = whole_answers(answering(tmp_path, family))
    rows = layers_of(source).layers
    with torch.no_grad():
        input_weight(rows[1].out)[:, rows[1].group : 2 * rows[1].group] = 0
        input_weight(rows[2].down)[:, 5] = 0
    given = batches(source, rows_for(family, tmp_path, 16), 8)
    found = scores(source, given, ("heads", "ffn", "layers"), method)
    heads, ffn = found.heads[1], found.ffn[2]
    assert heads is not None
    assert ffn is not None
    assert found.layers is not None
    assert (heads.argmin(), ffn.argmin()) == (1, 5)
    assert heads[1] == pytest.approx(0, abs=1e-12)
    assert not any("no labels" in note for note in found.notes)
    # The first layer of T5 makes what the others read: it is worth more than all of them.
    assert np.isinf(found.layers).tolist() == [family == "t5", False, False]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("family", ["t5", "bart", pytest.param("whisper", marks=pytest.mark.slow)])
def test_least_squares_bring_what_is_left_closer(family: str, tmp_path: Path) -> None:
    """On texts that nothing was fitted to, where layers hand on a bias and where they do not."""
    source = whole_answers(answering(tmp_path, family))
    given = batches(source, rows_for(family, tmp_path, 20 if family == "whisper" else 80), 8)
    held = answers_of(source, given[1::5])
    rest = [one for place, one in enumerate(given) if place % 5 != 1]
    half = layers_of(source).layers[0].heads // 2
    plan = alike(source, heads=half, ffn=32, layers=(0, 2))
    pruned = cut(source, plan)
    before = held.judge(pruned).loss
    report = repair(source, pruned, plan, rest)
    assert len(report.errors) == 4
    assert report.after < report.before
    assert held.judge(pruned).loss < before


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_both_engines_answer_what_the_pruned_module_answers(family: str, tmp_path: Path) -> None:
    """Token for token as transformers' generate, and all that was reported is saved."""
    source = answering(tmp_path, family)
    plan = unlike(source)
    opened = written(source, plan, tmp_path / "pruned")
    model: Any = cut(source, plan).module.model
    tokenizer: Any = opened.tokenizer
    prompt = torch.tensor([tokenizer(PROMPTS[0])["input_ids"]])
    wanted = model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW,
        min_new_tokens=NEW, do_sample=False, num_beams=1,
    )[0, 1:].tolist()  # fmt: skip
    edgekit.export(str(tmp_path / "pruned"), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    for engine in ENGINES:
        with edgekit.load(bundle.path, engine=engine, threads=1) as ours:
            assert all(row.passed for row in ours.selftest()), engine
            predictor: Any = ours.predictor
            found = predictor.tokens(
                PROMPTS[0], max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=1
            )
            assert found == wanted, engine
    check_stated(source, opened, bundle)
    if family == "t5":
        check_saved(tmp_path / "model", source, opened, bundle)


@pytest.mark.slow
def test_both_engines_write_down_what_the_pruned_module_hears(tmp_path: Path) -> None:
    """Of several sounds at once, with an encoder whose layers differ."""
    source = answering(tmp_path, "whisper")
    plan = unlike(source)
    written(source, plan, tmp_path / "pruned")
    theirs = Theirs(tmp_path / "model")
    theirs.model = cut(source, plan).module.model
    waves = [compose(length, seed) for seed, length in enumerate((32_000, 9_001, 20_000))]
    expected = [
        theirs.answer(tokens, times=False) for tokens in theirs.tokens(waves, max_new_tokens=NEW)
    ]
    edgekit.export(str(tmp_path / "pruned"), tmp_path / "bundle")
    for engine in ENGINES:
        with edgekit.load(tmp_path / "bundle", engine=engine, threads=1) as ours:
            assert all(row.passed for row in ours.selftest()), engine
            heard: Any = [(wave, 16_000) for wave in waves]
            assert ours(heard, batch_size=3, max_new_tokens=NEW) == expected, engine
