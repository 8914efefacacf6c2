"""Models that generate: what is cut of them, and what is left that generates still."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import PruneError
from edgekit.pruning.distances import answers_of
from edgekit.pruning.feeding import batches
from edgekit.pruning.importance import METHODS, scores
from edgekit.pruning.reconstruction import repair
from edgekit.pruning.structures import cut, layers_of, structures_of
from edgekit.sources.generation.decoding import PAST, PRESENT
from edgekit.sources.generation.feeding import Sizes
from edgekit.sources.generation.whole import (
    WholeTexts,
    encode_texts,
    next_token_losses,
    whole_texts,
)
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pruned.cutting import input_weight
from edgekit.sources.pruned.plan import read_plan
from tests.pruning.generators import (
    CAUSAL,
    alike,
    check_saved,
    check_stated,
    generator,
    read,
    stories,
    unlike,
    written,
)
from tests.sources.pruned.masking import masked
from tests.text_models import PROMPTS

NEW = 24


@pytest.mark.parametrize("family", CAUSAL)
def test_all_three_structures_are_there(family: str, tmp_path: Path) -> None:
    """Heads that share keys count as one."""
    source = generator(tmp_path, family)
    assert structures_of(source) == ("heads", "ffn", "layers")
    heads = [row.heads for row in layers_of(source).layers]
    assert heads == [4 if family == "gpt2" else 2] * 3


@pytest.mark.parametrize("family", CAUSAL)
def test_with_a_cache_it_says_what_the_masked_original_says(family: str, tmp_path: Path) -> None:
    """A prompt, and what follows it, through the cache of the layers that are left."""
    source = generator(tmp_path, family)
    plan = unlike(source)
    whole = whole_texts(source)
    ids = torch.randint(8, 600, (2, 9), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode(), masked(whole.module.model, plan):
        expected = whole.module(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"]
    pruned = cut(source, plan)
    assert pruned.feeder is not None
    feeds = pruned.feeder(Sizes(batch=2, sequence=5, padded=False), seed=0)
    with torch.inference_mode():
        prompt = pruned.module(**{**feeds, "input_ids": ids[:, :5]})
        past = {
            name.replace(PRESENT, PAST): value
            for name, value in prompt.items()
            if name.startswith(PRESENT)
        }
        after = pruned.module(
            input_ids=ids[:, 5:],
            attention_mask=torch.ones_like(ids),
            position_ids=torch.arange(5, 9).expand(2, -1),
            logits_to_keep=torch.arange(4),
            **past,
        )
    found = torch.cat([prompt["logits"], after["logits"]], 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    groups = [past[f"{PAST}.{place}.key"].shape[1] for place in range(2)]
    assert groups == [row.heads_left for row in plan.left()]


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma3"])
def test_a_folder_of_unlike_layers(family: str, tmp_path: Path) -> None:
    """It opens as the model that was cut, with its embeddings tied as they were."""
    source = generator(tmp_path, family)
    plan = unlike(source)
    opened = written(source, plan, tmp_path / "pruned")
    assert same(opened, cut(source, plan))
    assert opened.origin is not None
    assert opened.origin.sha256 == source.sha256 != opened.sha256
    assert opened.parameters == cut(source, plan).parameters < source.parameters
    assert opened.generative
    model: Any = opened.module.model
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied is bool(model.config.tie_word_embeddings)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma3"])
def test_a_config_says_one_number_of_groups(family: str, tmp_path: Path) -> None:
    """One width, one number of heads and fewer layers load with from_pretrained alone."""
    source = generator(tmp_path, family)
    plan = alike(source, heads=1, ffn=24, layers=(1, 2))
    opened = written(source, plan, tmp_path / "pruned")
    assert read_plan(tmp_path / "pruned").written
    assert same(opened, cut(source, plan))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").eval()
    config = model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (2, 1, 8)
    assert (config.intermediate_size, config.num_hidden_layers) == (24, 2)
    assert same(replace(whole_texts(opened), module=WholeTexts(model).eval()), cut(source, plan))


def test_what_no_config_says_is_not_written_into_one(tmp_path: Path) -> None:
    """Heads that do not divide the width, and layers that compute with their own number."""
    wide = generator(tmp_path / "wide", num_attention_heads=8, num_key_value_heads=4)
    plan = alike(wide, heads=3, ffn=24, layers=(0, 1, 2))
    assert same(written(wide, plan, tmp_path / "three"), cut(wide, plan))
    assert not read_plan(tmp_path / "three").written
    placed = generator(tmp_path / "placed", "gpt2", scale_attn_by_inverse_layer_idx=True)
    whole = alike(placed, heads=4, ffn=128, layers=(0, 2))
    later = replace(
        whole, layers=tuple(replace(row, kept_heads=None, kept_ffn=None) for row in whole.layers)
    )
    assert same(written(placed, later, tmp_path / "later"), cut(placed, later))
    assert not read_plan(tmp_path / "later").written
    first = replace(later, kept_layers=(0, 1))
    assert same(written(placed, first, tmp_path / "first"), cut(placed, first))
    assert read_plan(tmp_path / "first").written


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_what_does_nothing_is_worth_nothing(family: str, method: str, tmp_path: Path) -> None:
    """A group of heads and a neuron without effect; the texts are their own labels."""
    source = whole_texts(generator(tmp_path, family))
    rows = layers_of(source).layers
    with torch.no_grad():
        input_weight(rows[1].out)[:, rows[1].group : 2 * rows[1].group] = 0
        input_weight(rows[2].down)[:, 5] = 0
    given = batches(source, read(stories(tmp_path, 16)), 8)
    found = scores(source, given, ("heads", "ffn", "layers"), method)
    heads, ffn = found.heads[1], found.ffn[2]
    assert heads is not None
    assert ffn is not None
    assert found.layers is not None
    assert (heads.argmin(), ffn.argmin()) == (1, 5)
    assert heads[1] == pytest.approx(0, abs=1e-12)
    assert sorted(heads)[1] > 0
    assert len(found.layers) == 3
    assert not any("no labels" in note for note in found.notes)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_least_squares_bring_what_is_left_closer(family: str, tmp_path: Path) -> None:
    """On texts that nothing was fitted to: with biases, without, and behind norms."""
    source = whole_texts(generator(tmp_path, family))
    given = batches(source, read(stories(tmp_path, 160)), 16)
    held = answers_of(source, given[1::5])
    rest = [one for place, one in enumerate(given) if place % 5 != 1]
    half = layers_of(source).layers[0].heads // 2
    plan = alike(source, heads=half, ffn=32, layers=(0, 1, 2))
    pruned = cut(source, plan)
    before = held.judge(pruned).loss
    report = repair(source, pruned, plan, rest)
    assert report.after < report.before
    assert held.judge(pruned).loss < before


def test_a_loss_is_that_of_the_next_tokens(tmp_path: Path) -> None:
    """transformers' own, for a text alone and for one that ends with padding."""
    source = whole_texts(generator(tmp_path))
    batch = batches(source, read(stories(tmp_path, 4)), 4)[0]
    assert not batch.inputs["attention_mask"].all()
    with torch.inference_mode():
        logits = source.module(**batch.inputs)["logits"]
        sums, counts = next_token_losses(logits, batch.inputs)
        for row, length in enumerate(batch.inputs["attention_mask"].sum(1)):
            ids = batch.inputs["input_ids"][row : row + 1, :length]
            alone = source.module.model(input_ids=ids, labels=ids, use_cache=False).loss
            assert float(sums[row] / counts[row]) == pytest.approx(float(alone), rel=1e-4)
    assert counts.tolist() == [float(one) - 1 for one in batch.inputs["attention_mask"].sum(1)]


def test_answers_beyond_the_memory_are_computed_again(tmp_path: Path) -> None:
    """The distance is the same."""
    source = whole_texts(generator(tmp_path))
    given = batches(source, read(stories(tmp_path, 12)), 4)
    pruned = cut(source, alike(source, heads=2, ffn=24, layers=(0, 1, 2)))
    known, few = answers_of(source, given), answers_of(source, given, most_bytes=1)
    assert [one is None for one in few.outputs] == [False, True, True]
    assert few.judge(pruned).loss == pytest.approx(known.judge(pruned).loss)


def test_batches_are_small_where_their_answers_are_large(tmp_path: Path) -> None:
    """Rows with scores of a large vocabulary are few; their padding is at their end."""
    source = whole_texts(generator(tmp_path))
    path = tmp_path / "texts.csv"
    path.write_text("text\n" + "\n".join("word " * at + "end" for at in range(9)) + "\n")
    made = batches(source, read(path), 4)
    assert [len(one) for one in made] == [4, 4, 1]
    config: Any = transformers.LlamaConfig(vocab_size=10**6)
    assert {len(one) for one in batches(replace(source, config=config), read(path), 4)} == {1}
    read_by: Any = source.tokenizer
    one = encode_texts(read_by, ["", "the fox jumps over"], max_length=3)
    assert one["input_ids"].shape == (2, 3)
    assert one["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_what_is_not_pruned_says_why(tmp_path: Path) -> None:
    """Heads for classes on a decoder."""
    classes = replace(generator(tmp_path), task="text-classification")
    with pytest.raises(PruneError, match="llama model is not pruned for text-classification"):
        structures_of(classes)


@pytest.mark.slow
@pytest.mark.parametrize("family", CAUSAL)
def test_both_engines_say_what_the_pruned_module_says(family: str, tmp_path: Path) -> None:
    """Token for token as transformers' generate, and all that was reported is saved."""
    source = generator(tmp_path, family)
    plan = unlike(source)
    opened = written(source, plan, tmp_path / "pruned")
    model: Any = cut(source, plan).module.model
    tokenizer: Any = opened.tokenizer
    prompt = torch.tensor([tokenizer(PROMPTS[0])["input_ids"]])
    wanted = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, min_new_tokens=NEW,
        do_sample=False, num_beams=1,
    )[0, prompt.shape[1] :].tolist()  # fmt: skip
    edgekit.export(str(tmp_path / "pruned"), tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    inputs = {spec.name: spec.shape for spec in bundle.manifest.components["model"].inputs}
    assert [inputs[f"{PAST}.{place}.key"][1] for place in range(2)] == [
        row.heads_left for row in plan.left()
    ]
    for engine in ("onnxruntime", "openvino"):
        with edgekit.load(bundle.path, engine=engine, threads=1) as ours:
            assert all(row.passed for row in ours.selftest()), engine
            predictor: Any = ours.predictor
            said = predictor.tokens(
                PROMPTS[0], max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=1
            )
            assert said == wanted, engine
    check_stated(source, opened, bundle)
    if family == "llama":
        check_saved(tmp_path / "model", source, opened, bundle)


def same(first: LoadedSource, second: LoadedSource) -> bool:
    """Whether two sources say the same of whole texts."""
    ours, theirs = (whole_texts(one) if one.generative else one for one in (first, second))
    with torch.inference_mode():
        return torch.allclose(
            ours.module(**ours.sample_inputs)["logits"],
            theirs.module(**ours.sample_inputs)["logits"],
            atol=1e-5,
        )
