"""What an export of a model that generates writes, and the traps on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import GenerationConfig

from edgekit.core.errors import ConfigError, ExportError, SourceError
from edgekit.core.tolerance import tolerance_for
from edgekit.exporters.generative.chats import check_chat
from edgekit.exporters.generative.rules import build_rules, ignored_options, usable_defaults
from edgekit.exporters.generative.texts import check_tokenizer, takes_spaces_out
from edgekit.exporters.model import export_model
from edgekit.runtime.engines import onnxruntime
from edgekit.runtime.generation.rules import Chat, GenerationRules
from edgekit.sources.generation import decoding, seq2seq
from edgekit.sources.generation.feeding import Sizes, mask_of, positions_of, stretched
from edgekit.sources.generation.masks import Layers
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests.text_models import CONTEXT, WINDOW, save_generator, tokenizer_of


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedSource:
    """A decoder with grouped queries and tied weights."""
    return open_source(str(save_generator("llama", tmp_path_factory.mktemp("llama"))))


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> LoadedSource:
    """An encoder and a decoder."""
    return open_source(str(save_generator("bart", tmp_path_factory.mktemp("bart"))))


def test_decoder_is_fed_with_names_of_the_ecosystem(llama: LoadedSource) -> None:
    """Ids, mask and positions first, then the cache of each layer."""
    names = list(llama.sample_inputs)
    assert names[:4] == [
        "input_ids",
        "attention_mask",
        "position_ids",
        "past_key_values.0.key",
    ]
    assert names[-1] == "logits_to_keep"
    assert llama.task == "text-generation"
    assert llama.generative


def test_traced_batch_has_padding_and_no_two_sizes_alike(llama: LoadedSource) -> None:
    """All-ones masks disappear from graphs, and axes of one size become one axis."""
    sample = llama.sample_inputs
    assert 0 in sample["attention_mask"]
    sizes = {
        sample["input_ids"].shape[0],
        sample["input_ids"].shape[1],
        sample["attention_mask"].shape[1],
        sample["past_key_values.0.key"].shape[2],
        sample["logits_to_keep"].shape[0],
    }
    assert len(sizes) == 5
    assert min(sizes) > 1


def test_own_masks_equal_those_of_transformers(llama: LoadedSource) -> None:
    """At the tokens that are none of padding, with the attention that is traced."""
    assert llama.feeder is not None
    inputs = llama.feeder(Sizes(batch=3, sequence=4, past=6), seed=5)
    with torch.inference_mode():
        wanted = llama.module(**inputs)["logits"]
        with llama.module.traceable():  # type: ignore[operator]
            got = llama.module(**inputs)["logits"]
    real = inputs["attention_mask"][:, -4:].bool()
    assert torch.allclose(wanted[real], got[real], atol=1e-5)
    assert not torch.isnan(got).any()


def test_row_of_padding_sees_itself() -> None:
    """Softmax over nothing is NaN."""
    layers = Layers(("full_attention",), None, 1)
    mask = layers.masks(torch.tensor([[0, 0, 1, 1]]), 4, torch.float32)
    assert isinstance(mask, torch.Tensor)
    seen = (mask[0, 0] == 0).int().tolist()
    assert seen == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_window_hides_what_lies_before_it() -> None:
    """The last tokens of the window are seen, the query's own among them."""
    layers = Layers(("sliding_attention",), WINDOW, 2)
    mask = layers.masks(torch.ones(1, 9, dtype=torch.int64), 1, torch.float32)
    assert isinstance(mask, torch.Tensor)
    # Two heads share their keys: two rows.
    assert mask.shape == (1, 1, 2, 9)
    assert int((mask[0, 0, 0] == 0).sum()) == WINDOW


def test_left_padding_moves_positions() -> None:
    """The first real token of every row is at 0."""
    mask = mask_of(3, 6, padded=True, left=True)
    assert mask.tolist()[0] == [0, 0, 1, 1, 1, 1]
    assert positions_of(mask, 6).tolist()[0] == [0, 0, 0, 1, 2, 3]
    assert positions_of(mask, 2).tolist() == [[2, 3], [0, 1], [4, 5]]


def test_long_cache_repeats_a_short_one() -> None:
    """So that a window of thousands is compared without computing thousands."""
    cache = torch.arange(3.0).reshape(1, 1, 3, 1)
    assert stretched(cache, 7).flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_rules_say_what_the_checkpoint_says(llama: LoadedSource) -> None:
    """Ends, padding and the context."""
    rules = build_rules(llama)
    assert (rules.mode, rules.layers, rules.context) == ("decoder", 2, CONTEXT)
    assert (rules.eos, rules.pad, rules.bos) == ((2,), 0, 1)
    assert rules.chat is None
    assert ignored_options(llama) == ()


def test_rules_hold_the_chat_template(tmp_path: Path) -> None:
    """With the tokens that it may name."""
    template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    source = open_source(str(save_generator("gpt2", tmp_path, template=template)))
    chat = build_rules(source).chat
    assert chat is not None
    assert chat.template == template
    assert chat.tokens["eos_token"] == "</s>"


def test_option_that_the_runtime_lacks_is_told(llama: LoadedSource) -> None:
    """And nothing else."""
    config = llama.module.model.generation_config
    config.typical_p = 0.5
    try:
        (told,) = ignored_options(llama)
    finally:
        config.typical_p = None
    assert "typical_p" in told


@pytest.mark.parametrize(
    ("said", "kept", "told"),
    [
        ({"temperature": 0.0, "do_sample": True}, {}, "temperature to 0.0"),
        ({"top_p": 3.0, "top_k": 5}, {"top_k": 5}, "top_p to 3.0"),
        ({"do_sample": True, "num_beams": 4}, {"num_beams": 4}, "do_sample with beams"),
        ({"do_sample": True, "temperature": 0.6}, {"do_sample": True, "temperature": 0.6}, ""),
    ],
)
def test_default_that_no_call_could_use_is_left_out(
    said: dict[str, Any], kept: dict[str, Any], told: str
) -> None:
    """Else every call would fail that does not name the option itself."""
    config = GenerationConfig()
    for name, value in said.items():
        setattr(config, name, value)
    found, notes = usable_defaults(config)
    assert found == kept
    assert told in " ".join(notes)
    assert bool(told) is bool(notes)


def test_chat_template_is_compared_with_transformers() -> None:
    """A conversation that both refuses is one; a token that the runtime lacks is not."""
    turns = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] + (eos_token or '') }}{% endfor %}"
    )
    tokenizer = tokenizer_of(template=turns)
    rules = GenerationRules("decoder", 1, None, (2,), 0)
    tokens = {"eos_token": "</s>"}
    assert check_chat(tokenizer, rules) == 0
    assert check_chat(tokenizer, replace(rules, chat=Chat(turns, tokens))) == 3
    with pytest.raises(ExportError, match=r"conversation \(user\)"):
        check_chat(tokenizer, replace(rules, chat=Chat(turns, {})))


def test_rules_of_both_sides_name_the_first_token(bart: LoadedSource) -> None:
    """And the layers of the decoder."""
    rules = build_rules(bart)
    assert (rules.mode, rules.start, rules.layers) == ("seq2seq", (0,), 3)
    assert rules.encoder_context == CONTEXT


@pytest.mark.parametrize("asked", ["summarization", "translation"])
def test_answers_are_called_as_the_task_that_was_asked_for(bart: LoadedSource, asked: str) -> None:
    """A checkpoint does not say what its texts are; who exports it does."""
    assert build_rules(bart).task == "text2text"
    source = open_source(str(bart.folder), task=asked)
    assert source.task == "text2text-generation"
    assert build_rules(source).task == asked


def test_model_for_many_languages_is_refused(tmp_path: Path) -> None:
    """Nothing would tell it into which one to translate."""
    folder = save_generator("m2m_100", tmp_path)
    with pytest.raises(SourceError, match="no option says into which one"):
        open_source(str(folder))


def test_cross_attention_is_made_by_the_encoder(bart: LoadedSource) -> None:
    """As the whole model makes it in one call, for texts that end with padding."""
    encoder, decoder = bart.parts["encoder"], bart.parts["decoder"]
    assert encoder.feeder is not None
    assert decoder.feeder is not None
    text = encoder.feeder(Sizes(batch=3, sequence=6), seed=3)
    inputs = decoder.feeder(Sizes(batch=3, sequence=4, encoder=6), seed=3)
    with torch.inference_mode():
        whole = bart.module.model(**text, decoder_input_ids=inputs["input_ids"]).logits
        found = decoder.module(**inputs)["logits"]
    assert torch.equal(inputs["encoder_attention_mask"], text["attention_mask"])
    assert torch.allclose(whole, found, atol=1e-5)


def test_static_sizes_are_refused(llama: LoadedSource, tmp_path: Path) -> None:
    """Every size changes while a text is made."""
    with pytest.raises(ConfigError, match="other sizes for each token"):
        export_model(llama, tmp_path, static={"batch": 1})


def test_tokenizer_is_compared_with_transformers(tmp_path: Path) -> None:
    """A file of another tokenizer is found by the first text or answer that differs."""
    path = tmp_path / "tokenizer.json"
    tokenizer_of(ends=True).backend_tokenizer.save(str(path))
    assert check_tokenizer(tokenizer_of(ends=True), path) > 100
    with pytest.raises(ExportError, match="differently from transformers"):
        check_tokenizer(tokenizer_of(), path)


@pytest.mark.parametrize("forced", [False, True])
def test_spaces_before_punctuation_go_where_transformers_takes_them_out(
    tmp_path: Path, forced: bool
) -> None:
    """Of byte pairs they stay, whatever the tokenizer's config says, unless it insists."""
    tokenizer = tokenizer_of()
    tokenizer.clean_up_tokenization_spaces = True
    tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output = forced
    path = tmp_path / "tokenizer.json"
    tokenizer.backend_tokenizer.save(str(path))
    assert takes_spaces_out(tokenizer) is forced
    assert (tokenizer.decode(tokenizer("a , b")["input_ids"]) == "a, b") is forced
    assert check_tokenizer(tokenizer, path) > 100


def test_positions_that_change_with_the_length_are_refused(tmp_path: Path) -> None:
    """One graph cannot compute both."""
    folder = save_generator("llama", tmp_path)
    config = folder / "config.json"
    text = config.read_text(encoding="utf-8")
    assert '"default"' in text
    config.write_text(
        text.replace('"rope_type": "default"', '"rope_type": "dynamic", "factor": 2.0'),
        encoding="utf-8",
    )
    with pytest.raises(SourceError, match="dynamic"):
        open_source(str(folder))


@pytest.mark.slow
def test_axis_that_freezes_is_refused(
    llama: LoadedSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace with one token makes a graph for one token, and says nothing."""
    feeder = llama.feeder
    assert isinstance(feeder, decoding.DecoderFeeder)
    sample = feeder(Sizes(batch=2, sequence=1, past=5), seed=1)
    with pytest.raises(ExportError, match="'sequence'"):
        export_model(replace(llama, sample_inputs=sample), tmp_path)


@pytest.mark.slow
def test_mask_matters_in_the_graph(llama: LoadedSource, tmp_path: Path) -> None:
    """A padded row answers what it answers alone; the mask is an input of the graph."""
    made = export_model(llama, tmp_path)
    assert made.components["model"].inputs[1].name == "attention_mask"
    assert made.golden is not None
    # One row for the caches of all layers.
    assert {row.output for row in made.parity} == {"logits", "present"}
    weights = sum(value.numel() * 4 for value in llama.module.model.parameters())
    size = sum(path.stat().st_size for path in tmp_path.glob("model.onnx*"))
    # Tied weights once: parameters() counts them once as well.
    assert size < weights + 60_000
    session = onnxruntime.open_session(
        tmp_path, made.components["model"], options={}, device="cpu", threads=1
    )
    ids = np.arange(20, 27, dtype=np.int64)[None]
    empty = {
        spec.name: np.zeros((2, 2, 0, 8), np.float32)
        for spec in made.inputs
        if spec.name.startswith("past")
    }
    alone = session.run(
        {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(7)[None],
            "logits_to_keep": np.array([6]),
            **{name: array[:1] for name, array in empty.items()},
        }
    )["logits"][0, 0]
    padded = np.concatenate([np.full((1, 3), 5), ids], axis=1)
    mask = np.array([[0] * 3 + [1] * 7, [1] * 10])
    both = session.run(
        {
            "input_ids": np.concatenate([padded, np.arange(30, 40)[None]]),
            "attention_mask": mask,
            "position_ids": (mask.cumsum(1) - 1).clip(0),
            "logits_to_keep": np.array([9]),
            **empty,
        }
    )["logits"][0, 0]
    session.close()
    scale = float(np.abs(alone).max())
    assert float(np.abs(both - alone).max()) <= tolerance_for("fp32").most(scale)


@pytest.mark.slow
def test_encoder_is_a_component_of_its_own(bart: LoadedSource, tmp_path: Path) -> None:
    """With the projections of the cross-attention, which the decoder has no copy of."""
    import onnx

    made = export_model(bart, tmp_path)
    assert set(made.components) == {"encoder", "decoder"}
    outputs = [spec.name for spec in made.components["encoder"].outputs]
    assert outputs[:2] == ["present.0.encoder.key", "present.0.encoder.value"]
    assert len(outputs) == 6
    graphs = {name: onnx.load(tmp_path / f"{name}.onnx").graph for name in made.components}
    held = {name: {w.name for w in graph.initializer} for name, graph in graphs.items()}
    cross = {name for name in held["decoder"] if "encoder_attn.k_proj" in name}
    assert not cross
    assert any("encoder_attn.k_proj" in name for name in held["encoder"])
    assert not any("self_attn" in name and "decoder" in name for name in held["encoder"])
    assert seq2seq.OWN == "decoder"


@pytest.mark.slow
def test_weights_beside_the_graph_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a large model lie; ONNX Runtime writes its own file of them."""
    import edgekit
    from edgekit.exporters.generative import components

    monkeypatch.setattr(components, "_INLINE_BYTES", 1000)
    folder = save_generator("llama", tmp_path / "source")
    edgekit.export(str(folder), tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.onnx.data").is_file()
    graph = onnx.load(str(tmp_path / "bundle" / "model.onnx"), load_external_data=False).graph
    operators = [node.op_type for node in graph.node]
    # Two layers turn queries and keys by the same angles.
    assert operators.count("RotaryEmbedding") == 4
    assert [operators.count(name) for name in ("Cos", "Sin")] == [1, 1]
    edgekit.compile(tmp_path / "bundle", tmp_path / "compiled", target="cpu-x86", threads=1)
    with edgekit.load(tmp_path / "compiled") as model:
        assert all(row.passed for row in model.selftest())


def test_answers_that_a_file_would_not_hold_are_sampled(
    bart: LoadedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The large ones alone, at an odd stride, of the same inputs."""
    from edgekit.exporters.generative import components

    whole = components._golden(bart.parts)
    assert whole is not None
    assert not whole.strides
    monkeypatch.setattr(components, "_LARGE", 100)
    monkeypatch.setattr(components, "_SAMPLE", 20)
    monkeypatch.setattr(components, "_GOLDEN_BYTES", 16_000)
    thin = components._golden(bart.parts)
    assert thin is not None
    for name, array in whole.inputs.items():
        assert np.array_equal(thin.inputs[name], array)
    assert "decoder.logits" in thin.strides
    for name, stride in thin.strides.items():
        assert stride % 2
        assert thin.reference[name].ndim == 1
        assert thin.reference[name].size <= 20
    monkeypatch.setattr(components, "_GOLDEN_BYTES", 100)
    assert components._golden(bart.parts) is None


TASKS_OF_T5 = {
    "summarization": {"prefix": "summarize: ", "num_beams": 4, "length_penalty": 2.0},
    "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 4},
}


@pytest.mark.parametrize(
    ("asked", "prefix", "beams"),
    [
        (None, None, None),
        ("summarization", "summarize: ", 4),
        ("translation_en_to_de", "translate English to German: ", 4),
        ("translation", None, None),
    ],
)
def test_prefix_is_that_of_the_task_that_was_asked_for(
    bart: LoadedSource, asked: str | None, prefix: str | None, beams: int | None
) -> None:
    """With its options, as the pipelines of transformers 4 did; else it is told that none is."""
    model: Any = bart.module.model
    source = replace(bart, asked=asked)
    model.config.task_specific_params = TASKS_OF_T5
    try:
        rules, notes = build_rules(source), " ".join(ignored_options(source))
    finally:
        del model.config.task_specific_params
    assert rules.prefix == prefix
    assert rules.defaults.get("num_beams") == beams
    assert ("one of these names as --task" in notes) is (prefix is None)
    if asked is not None:
        assert rules.task == asked.partition("_")[0]
