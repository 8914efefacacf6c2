"""A pruned folder opens as the model that was cut, and as nothing else."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import edgekit.source
from edgekit.core.errors import ConfigError, PruneError, SourceError
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.opening import open_source
from edgekit.sources.pruned.cutting import apply_plan, whole_plan
from edgekit.sources.pruned.folder import save_pruned
from edgekit.sources.pruned.plan import PLAN_NAME, LayerPlan, Plan, read_plan
from tests.models import add_sentence_transformer, save_model
from tests.sources.pruned.masking import plan_of


def pruned(source: LoadedSource, folder: Path, plan: Plan | None = None) -> Path:
    """A folder with the source cut by a plan of other sizes in every layer."""
    whole = whole_plan(source)
    plan = plan or plan_of(source.module.model)
    plan = replace(whole, layers=plan.layers, kept_layers=plan.kept_layers, structures=("heads",))
    folder.mkdir()
    save_pruned(source, cut(source, plan), plan, folder)
    return folder


def same(first: LoadedSource, second: LoadedSource) -> bool:
    """Whether two sources answer the same."""
    with torch.inference_mode():
        ours = first.module(**first.sample_inputs)
        theirs = second.module(**first.sample_inputs)
    return all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


def cut(source: LoadedSource, plan: Plan) -> LoadedSource:
    """The source with its module cut in memory."""
    module = copy.deepcopy(source.module)
    apply_plan(module.model, plan)
    return replace(source, module=module)


def uniform(source: LoadedSource, width: int, layers: tuple[int, ...]) -> Plan:
    """A plan that a config can say: one width, fewer layers."""
    whole = whole_plan(source)
    rows = tuple(
        replace(row, kept_ffn=tuple(range(place, place + width)))
        for place, row in enumerate(whole.layers)
    )
    return replace(whole, layers=rows, kept_layers=layers)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "mpnet", "modernbert", "distilbert"])
def test_a_folder_of_unlike_layers(family: str, tmp_path: Path) -> None:
    """It opens as what was saved, and knows what it comes from."""
    source = open_source(str(save_model(family, "text-classification", tmp_path / "model")))
    plan = plan_of(source.module.model)
    opened = open_source(str(pruned(source, tmp_path / "pruned", plan)))
    assert same(opened, cut(source, plan))
    assert opened.origin is not None
    assert opened.origin.sha256 == source.sha256 != opened.sha256
    assert opened.origin.id == "model"
    assert opened.parameters < source.parameters
    assert opened.architecture == source.architecture
    assert opened.task == "text-classification"
    assert opened.labels == source.labels
    assert opened.tokenizer is not None


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    """The embeddings of a model that fills masks, in the file once."""
    source = open_source(str(save_model("bert", "fill-mask", tmp_path / "model")))
    folder = pruned(source, tmp_path / "pruned")
    model = open_source(str(folder)).module.model
    words = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is words
    stored = load_file(folder / "model.safetensors")
    assert [one.shape for one in stored.values()].count(words.shape) == 1


def test_a_sentence_embedder_keeps_its_pooling(tmp_path: Path) -> None:
    """With the files of sentence-transformers beside it."""
    saved = save_model("bert", "feature-extraction", tmp_path / "model")
    source = open_source(str(add_sentence_transformer(saved, max_length=32)))
    plan = plan_of(source.module.model)
    opened = open_source(str(pruned(source, tmp_path / "pruned", plan)))
    assert same(opened, cut(source, plan))
    assert opened.max_length == 32


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_a_config_says_what_it_can(family: str, tmp_path: Path) -> None:
    """One width and fewer layers load with from_pretrained alone."""
    saved = save_model(family, "text-classification", tmp_path / "model", layers=3)
    source = open_source(str(saved))
    plan = uniform(source, 24, (0, 2))
    folder = pruned(source, tmp_path / "pruned", plan)
    assert read_plan(folder).written
    opened = open_source(str(folder))
    assert same(opened, cut(source, plan))
    assert opened.origin is not None
    assert opened.origin.sha256 == source.sha256
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    with torch.inference_mode():
        logits = model.eval()(**source.sample_inputs).logits
        expected = opened.module(**source.sample_inputs)["logits"]
    torch.testing.assert_close(logits, expected)


def test_what_no_config_says_is_not_written_into_one(tmp_path: Path) -> None:
    """ModernBERT's first layer, without which the next has a norm that no first one has."""
    saved = save_model("modernbert", "text-classification", tmp_path / "model", layers=3)
    source = open_source(str(saved))
    plan = uniform(source, 24, (1, 2))
    folder = pruned(source, tmp_path / "pruned", plan)
    assert not read_plan(folder).written
    assert same(open_source(str(folder)), cut(source, plan))


@pytest.mark.parametrize("config_first", [False, True], ids=["plan", "config"])
def test_pruned_twice(config_first: bool, tmp_path: Path) -> None:
    """The second folder still names the model that was never pruned."""
    saved = save_model("bert", "text-classification", tmp_path / "model", layers=3)
    source = open_source(str(saved))
    first = uniform(source, 32, (0, 2)) if config_first else plan_of(source.module.model)
    once = open_source(str(pruned(source, tmp_path / "once", first)))
    second = plan_of(once.module.model, seed=9)
    twice = open_source(str(pruned(once, tmp_path / "twice", second)))
    assert same(twice, cut(cut(source, first), second))
    assert twice.origin is not None
    assert twice.plan is not None
    assert twice.origin.sha256 == source.sha256
    assert twice.plan.base.sha256 == once.sha256


def test_training_on(tmp_path: Path) -> None:
    """`edgekit.source` gives a module to train and takes it back."""
    source = open_source(str(save_model("bert", "text-classification", tmp_path / "model")))
    folder = pruned(source, tmp_path / "pruned")
    before = open_source(str(folder))
    model = edgekit.source.load(folder)
    assert all(one.requires_grad for one in model.parameters())
    with torch.no_grad():
        model.classifier.bias.add_(1)
    edgekit.source.save(model, folder)
    after = open_source(str(folder))
    assert after.origin == before.origin
    with torch.inference_mode():
        gap = (
            after.module(**after.sample_inputs)["logits"]
            - before.module(**before.sample_inputs)["logits"]
        )
    torch.testing.assert_close(gap, torch.ones_like(gap))
    with pytest.raises(PruneError, match="other weights than"):
        edgekit.source.save(source.module.model, folder)
    with pytest.raises(ConfigError, match=PLAN_NAME):
        edgekit.source.save(model, tmp_path / "model")
    with pytest.raises(ConfigError, match="no folder"):
        edgekit.source.load(tmp_path / "nothing")


@pytest.mark.parametrize("stopped_at", range(4))
def test_a_save_that_is_stopped_leaves_what_was(
    stopped_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and plan belong together, and nothing lies about, wherever it was stopped."""
    source = open_source(str(save_model("bert", "text-classification", tmp_path / "model")))
    folder = pruned(source, tmp_path / "pruned")
    names = {path.name for path in folder.iterdir()}
    model = edgekit.source.load(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    rename, calls = Path.rename, []

    def stop(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == stopped_at + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    before = open_source(str(folder))
    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        edgekit.source.save(model, folder)
    assert {path.name for path in folder.iterdir()} == names
    assert same(open_source(str(folder)), before)


def test_weights_of_another_plan_are_refused(tmp_path: Path) -> None:
    """A hash tells them apart, whatever their shapes."""
    source = open_source(str(save_model("bert", "text-classification", tmp_path / "model")))
    folder = pruned(source, tmp_path / "pruned")
    path = folder / "model.safetensors"
    state = load_file(path)
    state["classifier.bias"] = state["classifier.bias"] + 1
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"are not those that its pruning\.json was written for"):
        open_source(str(folder))
    path.unlink()
    with pytest.raises(SourceError, match=r"model.safetensors"):
        open_source(str(folder))


def test_another_task_is_refused(tmp_path: Path) -> None:
    """The hash of the origin is that of one head."""
    source = open_source(str(save_model("bert", "text-classification", tmp_path / "model")))
    folder = pruned(source, tmp_path / "pruned")
    with pytest.raises(SourceError, match="pruned for text-classification, and is opened for"):
        open_source(str(folder), task="feature-extraction")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2, this edgekit reads 1"),
        ({"format": "other"}, "no plan of edgekit's"),
        ({"kept_layers": [1, 0]}, "no rising list"),
        ({"kept_layers": [0, 7]}, "no rising list"),
        ({"structures": ["colours"]}, "unknown structures colours"),
        ({"origin": None}, "is damaged"),
        ({"layers": "all"}, "is damaged"),
    ],
)
def test_a_damaged_plan_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    """Whatever is wrong with it is named."""
    source = open_source(str(save_model("bert", "text-classification", tmp_path / "model")))
    folder = pruned(source, tmp_path / "pruned")
    path = folder / PLAN_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SourceError, match=message):
        open_source(str(folder))
    path.write_text("{")
    with pytest.raises(SourceError, match="not readable JSON"):
        open_source(str(folder))


def test_a_plan_reads_back() -> None:
    """As it was written."""
    row = LayerPlan("layer.0", 4, 8, (0, 3), None)
    assert (row.heads_left, row.ffn_left) == (2, 8)
