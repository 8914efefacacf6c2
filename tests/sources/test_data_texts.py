"""DATA of models that generate: texts, and what they should become."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError
from edgekit.sources.data import check_data, read_samples

WRITES = "text2text-generation"


def lines(path: Path, *rows: object) -> str:
    """Rows as JSON lines; the path as DATA."""
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_texts_alone_are_all_that_a_decoder_reads(tmp_path: Path) -> None:
    """Also an empty one; other columns are nobody's labels."""
    data = lines(tmp_path / "d.jsonl", {"text": "a", "label": 1}, {"text": "", "label": 0})
    samples = read_samples(data, "text-generation", labels_wanted=True)
    assert [row["text"] for row in samples.inputs] == ["a", ""]
    assert samples.labels is None
    assert samples.notes == ()


def test_a_text_has_a_target_or_several(tmp_path: Path) -> None:
    """A list, its JSON, or a text that only looks like one."""
    rows = ("one", ["one", "two"], '["one"]', "[Music] one", "[1]")
    data = lines(tmp_path / "d.jsonl", *({"source": "s", "target": row} for row in rows))
    samples = read_samples(data, WRITES)
    assert samples.labels == ("one", ("one", "two"), ("one",), "[Music] one", "[1]")


def test_columns_are_mapped(tmp_path: Path) -> None:
    """As those of every task are."""
    data = lines(tmp_path / "d.jsonl", {"de": "Hallo", "en": "Hello"})
    samples = read_samples(data, WRITES, columns={"source": "de", "target": "en"})
    assert (samples.inputs[0], samples.labels) == ({"source": "Hallo"}, ("Hello",))


def test_without_targets_the_metric_is_agreement(tmp_path: Path) -> None:
    """Which is told; with a budget, labels under another name are missed."""
    data = lines(tmp_path / "d.jsonl", {"source": "Hallo", "output": "Hello"})
    samples = read_samples(data, WRITES)
    assert samples.labels is None
    assert "agreement" in samples.notes[0]
    with pytest.raises(ConfigError, match="'output' looks like labels") as caught:
        read_samples(data, WRITES, labels_wanted=True)
    assert "--columns target=output" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("task", "row", "told"),
    [
        ("text-generation", {"sentence": "a"}, "Map it with --columns text=COLUMN"),
        (WRITES, {"text": "a", "target": "b"}, "Map it with --columns source=COLUMN"),
        (WRITES, {"source": "a", "target": 3}, "A target is a text or a list of texts, got 3"),
        (WRITES, {"source": "a", "target": ""}, "target is empty"),
        ("text-generation", {"text": 7}, "text should be a text, got 7"),
    ],
)
def test_other_columns_are_refused(
    task: str, row: dict[str, object], told: str, tmp_path: Path
) -> None:
    """Each with its remedy, most of them before anything runs."""
    data = lines(tmp_path / "d.jsonl", row)
    with pytest.raises(ConfigError) as caught:
        check_data(data, task)
        read_samples(data, task)
    assert told in f"{caught.value.message} {caught.value.hint}"
