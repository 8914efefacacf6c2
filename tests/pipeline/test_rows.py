"""What is asked of DATA, alike by every command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.statistics import Budget
from edgekit.pipeline.rows import (
    ask_budget,
    check_rows,
    data_name,
    foretold,
    more_rows,
    read_verdict_rows,
    used_rows,
    wants_labels,
)
from tests.runtime.conftest import linear_graph, write_bundle
from tests.runtime.generation.conftest import write_generator
from tests.tiny_pictures import album, picture_bundle


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("--max-drop", {"max_drop": "1%"}),
        ("--metric", {"metric": "f1-macro"}),
        ("--columns", {"columns": "text=review"}),
        ("--limit", {"limit": 5}),
        ("--worst", {"worst": "w.jsonl"}),
    ],
)
def test_options_of_data_need_it(option: str, given: dict[str, object]) -> None:
    """One sentence for all of them, and none where there is DATA."""
    with pytest.raises(ConfigError, match=f"{option} needs --data, got {option} ") as caught:
        ask_budget(None, **given)  # type: ignore[arg-type]
    assert "--data DATA" in str(caught.value.hint)
    ask_budget("d.csv", **given)  # type: ignore[arg-type]


def test_columns_may_be_those_of_the_calibration() -> None:
    """It is a DATA too."""
    assert str(ask_budget(None, columns="text=review", calibration="c.csv")) == "1%"


@pytest.mark.parametrize(
    ("max_drop", "metric", "wanted"),
    [
        (None, None, False),
        ("1%", None, True),
        ("1%", "accuracy", True),
        ("1%", "own.py:score", True),
        ("1%", "agreement", False),
        ("1%", "spearman", True),
    ],
)
def test_labels_are_wanted_for_a_budget(
    max_drop: str | None, metric: str | None, wanted: bool
) -> None:
    """Unless the metric that was named is one without labels."""
    assert wants_labels(max_drop, metric) is wanted


def test_rows_that_would_settle_it() -> None:
    """So many for the verdict, and what that makes of the whole DATA."""
    assert "About 700 rows" in more_rows(700)
    assert "DATA of some 1,000 rows" in more_rows(700)
    assert "No number of rows" in more_rows(None)


@pytest.mark.parametrize(
    ("budget", "metric", "told"),
    [
        (Budget(0.05, "relative"), None, None),
        (Budget(0.001, "relative"), None, "About 2,995 rows for the verdict would settle it"),
        (Budget(0.0, "relative"), None, "give, for example, --max-drop 5%"),
        (Budget(0.0, "points"), None, "--max-drop 5pt."),
        (Budget(0.0, "relative"), "own.py:score", "Allow some with --max-drop"),
        (Budget(0.01, "relative"), "own.py:score", None),
    ],
)
def test_a_budget_out_of_reach_is_told_beforehand(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: Budget,
    metric: str | None,
    told: str | None,
) -> None:
    """Before all rows are judged: with what it would take, or that nothing would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("def score(predictions, labels):\n    return 1.0\n")
    bundle = write_bundle(tmp_path / "b", linear_graph(), task="text-classification")
    manifest = replace(bundle.manifest, labels=("good", "bad"))
    bundle = replace(bundle, manifest=manifest)
    data = tmp_path / "d.csv"
    data.write_text("\n".join(["text,label", *(f"film {n},good" for n in range(300))]))
    samples = read_verdict_rows(bundle, None, str(data), None)
    found = foretold(bundle, samples, None, metric, budget)
    assert found is None if told is None else told in (found or "")


def test_data_is_called_by_its_file(tmp_path: Path) -> None:
    """A manifest travels: no folder of its writer does. An id is told whole."""
    (tmp_path / "d.csv").write_text("")
    assert data_name(f"{tmp_path}/d.csv") == "d.csv"
    assert data_name("someone/reviews#test") == "someone/reviews#test"


def test_several_labels_are_read_as_the_bundle_means_them(tmp_path: Path) -> None:
    """Before the original is loaded the processor tells that labels come as lists."""
    bundle = write_bundle(tmp_path / "b", linear_graph(), task="text-classification")
    processor = {"post": {"kind": "classification", "activation": "sigmoid"}}
    manifest = replace(bundle.manifest, processor=processor, labels=("good", "short"))
    data = tmp_path / "d.csv"
    rows = [f'film {n},"good,short"' for n in range(200)]
    data.write_text("\n".join(["text,label", *rows]))
    found = read_verdict_rows(replace(bundle, manifest=manifest), None, str(data), None)
    assert found.problem == "multi_label_classification"
    assert found.labels is not None
    assert found.labels[0] == (0, 1)
    assert used_rows(manifest) == set()


def test_features_of_pictures_are_judged_on_pictures(tmp_path: Path) -> None:
    """By the bundle's processor: a task of that name reads texts as well."""
    bundle = picture_bundle(tmp_path / "b", "image-states")
    data = str(album(tmp_path / "album", 60))
    check_rows(bundle, data, None)
    samples = read_verdict_rows(bundle, None, data, None)
    assert samples.labels is None
    assert all(isinstance(row["image"], Path) for row in samples.inputs)
    (tmp_path / "t.csv").write_text("text,score\na,1\n")
    with pytest.raises(ConfigError, match="no column 'image'"):
        check_rows(bundle, str(tmp_path / "t.csv"), None)


def test_boxes_are_judged_on_data(tmp_path: Path) -> None:
    """Pictures alone are enough: without boxes those of the original are the truth."""
    bundle = picture_bundle(tmp_path / "b", "object-detection")
    data = str(album(tmp_path / "album", 3))
    check_rows(bundle, data, None)
    check_rows(bundle, data, None, judged=False)
    with pytest.raises(ConfigError, match="looks like labels"):
        check_rows(bundle, data, None, labels_wanted=True)


def test_two_towers_are_not_judged_on_data(tmp_path: Path) -> None:
    """Before anything is read."""
    made = picture_bundle(tmp_path / "b", "image-states")
    parts = dict.fromkeys(("image", "text"), made.manifest.components["model"])
    towers = Bundle(made.path, replace(made.manifest, components=parts))
    with pytest.raises(ConfigError, match="bundle of image and text"):
        check_rows(towers, "d.csv", None)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("d.npz", "", "holds arrays, and a model for text-generation reads texts"),
        ("d.csv", "sentence\nA dog.\n", "no column 'text'"),
        ("d.csv", "text\n", "has no rows"),
    ],
)
def test_what_generates_reads_texts(name: str, content: str, told: str, tmp_path: Path) -> None:
    """Looked at before an original is loaded."""
    bundle = write_generator(tmp_path / "b")
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=told):
        check_rows(bundle, str(tmp_path / name), None)
    (tmp_path / "e.csv").write_text("text\nA dog.\n")
    check_rows(bundle, str(tmp_path / "e.csv"), None)


def test_a_graph_that_cannot_generate_has_no_metric(tmp_path: Path) -> None:
    """An imported decoder has no tokenizer, and nobody knows how it is asked."""
    made = write_generator(tmp_path / "b")
    bare = Bundle(made.path, replace(made.manifest, generation=None, processor=None))
    (tmp_path / "d.csv").write_text("text\nA dog.\n")
    with pytest.raises(ConfigError, match="no metric for text-generation"):
        check_rows(bare, str(tmp_path / "d.csv"), None)


def test_an_encoder_and_its_decoder_are_judged(tmp_path: Path) -> None:
    """Two components that generate have a metric, and take the column of the texts to answer."""
    made = write_generator(tmp_path / "b")
    parts = dict.fromkeys(("encoder", "decoder"), made.manifest.components["model"])
    both = Bundle(made.path, replace(made.manifest, task="text2text-generation", components=parts))
    (tmp_path / "d.csv").write_text("source\nA dog.\n")
    check_rows(both, str(tmp_path / "d.csv"), None)
    (tmp_path / "other.csv").write_text("words\nA dog.\n")
    with pytest.raises(ConfigError, match="source"):
        check_rows(both, str(tmp_path / "other.csv"), None)
