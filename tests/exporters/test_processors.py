"""The declarative processor and its proof against transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from edgekit.core.errors import ExportError
from edgekit.exporters.processor_parity import check_processor
from edgekit.exporters.processors import build_processor, write_tokenizer
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from tests.models import ARCHITECTURES, add_sentence_transformer, save_model


def _open(folder: Path, architecture: str = "bert", task: str = "text-classification") -> Any:
    return open_source(str(save_model(architecture, task, folder / "m")))


def _written(source: LoadedSource, directory: Path) -> dict[str, object]:
    assert source.tokenizer is not None
    assert source.max_length is not None
    write_tokenizer(source.tokenizer, directory / "tokenizer.json")
    return build_processor(source, tuple(source.sample_inputs), source.max_length)


@pytest.mark.parametrize("task", ["text-classification", "question-answering"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokenizers_alone_agrees_with_transformers(
    architecture: str, task: str, tmp_path: Path
) -> None:
    """Every architecture's own tokenizer class, on texts, pairs and windows."""
    source = _open(tmp_path, architecture, task)
    processor = _written(source, tmp_path)
    assert check_processor(source, processor, tmp_path) > 20


def test_settings_inside_the_tokenizer_file_are_cleared(tmp_path: Path) -> None:
    """Files often cut at 128 and pad to 128 whatever the model takes; ours do neither."""
    folder = save_model("bert", "text-classification", tmp_path / "m")
    path = folder / "tokenizer.json"
    held = json.loads(path.read_text())
    held["truncation"] = {
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    held["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(held))
    source = open_source(str(folder))
    processor = _written(source, tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    assert written["truncation"] is None
    assert written["padding"] is None
    assert check_processor(source, processor, tmp_path) > 100


def test_processor_of_a_classifier(tmp_path: Path) -> None:
    """All that the runtime needs, spelt out."""
    source = _open(tmp_path)
    assert build_processor(source, ("input_ids", "attention_mask"), 64) == {
        "kind": "text",
        "tokenizer": "tokenizer.json",
        "max_length": 64,
        "truncation": {"strategy": "longest_first", "side": "right", "stride": 0},
        "padding": {"side": "right", "token": "[PAD]", "id": 0, "type_id": 0},
        "inputs": ["input_ids", "attention_mask"],
        "post": {"kind": "classification", "activation": "softmax", "top_k": 1},
    }


@pytest.mark.parametrize(
    ("labels", "problem", "activation"),
    [
        (("a", "b"), None, "softmax"),
        (("a", "b"), "multi_label_classification", "sigmoid"),
        (("score",), "regression", "none"),
        (("score",), None, "sigmoid"),
    ],
)
def test_activation_is_that_of_transformers_pipeline(
    labels: tuple[str, ...], problem: str | None, activation: str, tmp_path: Path
) -> None:
    """It follows from the problem type, else from the number of labels."""
    folder = save_model(
        "bert", "text-classification", tmp_path / "m", labels=labels, problem_type=problem
    )
    post: Any = build_processor(open_source(str(folder)), ("input_ids",), 64)["post"]
    assert post["activation"] == activation


def test_windows_of_question_answering_fit_the_length(tmp_path: Path) -> None:
    """The defaults of transformers 4.57, shortened for a model that takes less."""
    source = _open(tmp_path, task="question-answering")
    processor: Any = build_processor(source, ("input_ids",), 64)
    assert processor["truncation"] == {"strategy": "only_second", "side": "right", "stride": 32}
    assert processor["post"]["max_sequence_length"] == 64
    long: Any = build_processor(source, ("input_ids",), 512)
    assert (long["post"]["max_sequence_length"], long["post"]["doc_stride"]) == (384, 128)


def test_fill_mask_names_the_mask(tmp_path: Path) -> None:
    """The runtime finds masks by their id."""
    source = _open(tmp_path, "roberta", "fill-mask")
    post: Any = build_processor(source, ("input_ids",), 64)["post"]
    assert post["mask_token_id"] == source.tokenizer.mask_token_id
    assert post["top_k"] == 5


def test_pooled_and_plain_features_differ_in_kind(tmp_path: Path) -> None:
    """One array per text, or one per token."""
    plain = _open(tmp_path, task="feature-extraction")
    pooled = open_source(str(add_sentence_transformer(tmp_path / "m")))
    assert build_processor(plain, ("input_ids",), 64)["post"] == {"kind": "hidden-states"}
    assert build_processor(pooled, ("input_ids",), 64)["post"] == {"kind": "embedding"}


def test_different_tokenizer_is_an_export_error(tmp_path: Path) -> None:
    """A tokenizer that does more in Python than its file says is found by the suite."""
    source = _open(tmp_path)
    processor = _written(source, tmp_path)
    source.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ExportError, match="differently from transformers: input_ids is"):
        check_processor(source, processor, tmp_path)


def test_wrong_padding_is_an_export_error(tmp_path: Path) -> None:
    """Padding is compared too, on one batch of every length."""
    source = _open(tmp_path)
    processor = _written(source, tmp_path)
    source.tokenizer.padding_side = "left"
    with pytest.raises(ExportError, match="differently from transformers"):
        check_processor(source, processor, tmp_path)
    assert check_processor(
        source, build_processor(source, tuple(source.sample_inputs), 64), tmp_path
    )


def test_slow_tokenizer_is_converted(tmp_path: Path) -> None:
    """A Python tokenizer that transformers can convert becomes a tokenizer.json."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    source = _open(tmp_path)
    vocabulary = source.tokenizer.get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")

    class BertTokenizer(BertTokenizerLegacy):
        """Under the name that the converter knows."""

    slow = BertTokenizer(vocab_file=str(tmp_path / "vocab.txt"), model_max_length=64)
    changed = replace(source, tokenizer=slow)
    assert not slow.is_fast
    write_tokenizer(slow, tmp_path / "tokenizer.json")
    # The older class makes no token types.
    processor = build_processor(changed, ("input_ids", "attention_mask"), 64)
    assert check_processor(changed, processor, tmp_path) > 100


def test_tokenizer_that_cannot_be_converted_is_refused_with_the_reason(tmp_path: Path) -> None:
    """CANINE reads code points: `tokenizers` has no such model."""
    from transformers import CanineTokenizer

    with pytest.raises(ExportError, match="CanineTokenizer exists in Python only") as caught:
        write_tokenizer(CanineTokenizer(), tmp_path / "tokenizer.json")
    assert caught.value.__cause__ is not None
