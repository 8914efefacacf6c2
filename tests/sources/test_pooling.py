"""sentence-transformers' folders, rebuilt without the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgekit.core.errors import SourceError
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pooling import Pooling
from tests.models import add_sentence_transformer, save_model

HIDDEN = torch.tensor(
    [[[1.0, -2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 0.0]]]
)
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])

EXPECTED = {
    "cls": [[1.0, -2.0], [5.0, 6.0]],
    "max": [[3.0, 4.0], [9.0, 8.0]],
    "mean": [[2.0, 1.0], [7.0, 14 / 3]],
    "mean_sqrt_len_tokens": [[4 / 2**0.5, 2 / 2**0.5], [21 / 3**0.5, 14 / 3**0.5]],
    "weightedmean": [[7 / 3, 2.0], [46 / 6, 22 / 6]],
    "lasttoken": [[3.0, 4.0], [9.0, 0.0]],
}


@pytest.mark.parametrize("mode", EXPECTED)
def test_pooling_counts_only_what_the_mask_shows(mode: str) -> None:
    """Each mode by hand on two rows, one of them padded."""
    pooled = Pooling([mode])(HIDDEN, MASK)
    torch.testing.assert_close(pooled, torch.tensor(EXPECTED[mode]))


def test_last_token_of_a_left_padded_row_is_its_last() -> None:
    """The position follows from the mask, not from a count."""
    pooled = Pooling(["lasttoken"])(HIDDEN, torch.tensor([[0, 1, 1], [0, 0, 1]]))
    torch.testing.assert_close(pooled, HIDDEN[:, 2])


def test_several_modes_are_concatenated() -> None:
    """In sentence-transformers' order."""
    pooled = Pooling(["cls", "mean"])(HIDDEN, MASK)
    assert pooled.shape == (2, 4)
    torch.testing.assert_close(pooled[:, :2], HIDDEN[:, 0])


def _open(folder: Path) -> LoadedSource:
    return open_source(str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model to which a test adds sentence-transformers' files."""
    return save_model("mpnet", "feature-extraction", tmp_path / "m")


@pytest.mark.parametrize("modern", [False, True])
def test_folder_gives_one_normalised_embedding_per_text(folder: Path, modern: bool) -> None:
    """Mean pooling and normalisation are part of the module, in the old and new config."""
    plain = _open(folder)
    source = _open(add_sentence_transformer(folder, max_length=24, modern=modern))
    assert (source.task, source.max_length) == ("feature-extraction", 24)
    assert source.output_axes == {"sentence_embedding": ("batch",)}
    with torch.inference_mode():
        got = source.module(**source.sample_inputs)["sentence_embedding"]
        hidden = plain.module(**source.sample_inputs)["last_hidden_state"]
    mask = source.sample_inputs["attention_mask"]
    mean = Pooling(["mean"])(hidden, mask)
    torch.testing.assert_close(got, mean / mean.norm(dim=1, keepdim=True))


def test_dense_layer_is_rebuilt_and_hashed(folder: Path) -> None:
    """Its weights and activation apply, and another weight is another model."""
    add_sentence_transformer(folder, normalize=False)
    rows = json.loads((folder / "modules.json").read_text())
    rows.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "x.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "2_Dense").mkdir()
    settings: dict[str, object] = {"in_features": 32, "out_features": 8, "bias": True}
    settings["activation_function"] = "torch.nn.modules.activation.Tanh"
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
    weights = {"linear.weight": torch.full((8, 32), 0.5), "linear.bias": torch.zeros(8)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    first = _open(folder)
    outputs = first.module(**first.sample_inputs)["sentence_embedding"]
    assert outputs.shape == (3, 8)
    assert float(outputs.abs().max()) <= 1
    weights["linear.bias"] += 1
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    assert _open(folder).sha256 != first.sha256


def test_lowercasing_in_front_of_the_tokenizer_moves_into_it(folder: Path) -> None:
    """do_lower_case of sentence_bert_config.json is sentence-transformers' own doing."""
    add_sentence_transformer(folder)
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    tokenizer = _open(folder).tokenizer
    assert tokenizer is not None
    assert tokenizer("A FILM")["input_ids"] == tokenizer("a film")["input_ids"]


def test_other_task_on_such_a_folder_ignores_the_pooling(tmp_path: Path) -> None:
    """A classifier that was saved beside pooling files is still a classifier."""
    folder = save_model("bert", "text-classification", tmp_path / "m")
    add_sentence_transformer(folder)
    source = open_source(str(folder), task="text-classification")
    assert set(source.output_axes) == {"logits"}


def test_unsupported_module_is_named(folder: Path) -> None:
    """What cannot be rebuilt is refused, not skipped."""
    add_sentence_transformer(folder)
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("models.Normalize", "models.WeightedLayerPooling"))
    with pytest.raises(SourceError, match="module WeightedLayerPooling"):
        _open(folder)


def test_unsupported_pooling_is_named(folder: Path) -> None:
    """A pooling of a later version is refused by its name."""
    add_sentence_transformer(folder, modern=True, mode="attention")
    with pytest.raises(SourceError, match="asks for the pooling attention"):
        _open(folder)


def test_default_prompt_is_refused(folder: Path) -> None:
    """Embeddings would silently differ from sentence-transformers'."""
    add_sentence_transformer(folder)
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "query: "}, "default_prompt_name": "query"}'
    )
    with pytest.raises(SourceError, match="prepends the prompt 'query'"):
        _open(folder)


def test_modules_pointing_outside_are_refused(folder: Path) -> None:
    """A path of modules.json stays inside the folder."""
    add_sentence_transformer(folder)
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("1_Pooling", "../1_Pooling"))
    with pytest.raises(SourceError, match="outside of its folder"):
        _open(folder)
