"""DATA of sounds: folders by class, tables of paths, arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.core.errors import ConfigError
from edgekit.sources.data import check_data, check_path, read_samples

CLASSES = "audio-classification"
SPEECH = "automatic-speech-recognition"


def save(path: Path, seed: int) -> Path:
    """A short sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, 200).astype(np.float32)
    soundfile.write(path, noise, 8_000)
    return path


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Two folders of sounds, called as the classes."""
    for number in range(3):
        save(tmp_path / "calls" / "no" / f"{number}.wav", number)
        save(tmp_path / "calls" / "yes" / f"{number}.flac", 10 + number)
    (tmp_path / "calls" / "no" / "notes.wav").write_text("not a sound")
    return tmp_path / "calls"


def test_folder_for_each_class(calls: Path) -> None:
    """The folder's name is the label; what is no sound is passed over."""
    samples = read_samples(str(calls), CLASSES, labels=("yes", "no"))
    assert samples.labels == (1, 1, 1, 0, 0, 0)
    assert all(isinstance(row["audio"], Path) for row in samples.inputs)
    check_path(str(calls))
    check_data(str(calls), CLASSES, labels=("yes", "no"))


def test_folders_of_the_other_kind(calls: Path) -> None:
    """Sounds are no pictures."""
    with pytest.raises(ConfigError, match="holds no data file"):
        read_samples(str(calls), "image-classification", labels=("yes", "no"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_tables_of_transcripts(kind: str, calls: Path, tmp_path: Path) -> None:
    """Paths are relative to the table."""
    rows = [(f"calls/no/{number}.wav", f"number {number}, please") for number in range(3)]
    data = tmp_path / f"t.{kind}"
    if kind == "jsonl":
        data.write_text(
            "\n".join(json.dumps({"audio": path, "sentence": said}) for path, said in rows)
        )
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(("audio", "sentence"))]
        lines += [mark.join((path, json.dumps(said))) for path, said in rows]
        data.write_text("\n".join(lines))
    columns = {"transcription": "sentence"}
    samples = read_samples(str(data), SPEECH, columns=columns)
    assert samples.labels == tuple(said for _, said in rows)
    assert [Path(str(row["audio"])).parent.name for row in samples.inputs] == ["no"] * 3
    assert len(set(samples.hashes)) == 3


def test_what_is_missing_is_told(calls: Path, tmp_path: Path) -> None:
    """The sound, or the transcript."""
    (tmp_path / "t.csv").write_text("audio,transcription\nnone.wav,hello\n")
    with pytest.raises(ConfigError, match=r"row 1: audio names the sound none\.wav"):
        read_samples(str(tmp_path / "t.csv"), SPEECH)
    (tmp_path / "t.csv").write_text("audio,transcription\ncalls/no/0.wav,\n")
    with pytest.raises(ConfigError, match="transcription is empty"):
        read_samples(str(tmp_path / "t.csv"), SPEECH)
    (tmp_path / "t.jsonl").write_text('{"audio": "calls/no/0.wav", "transcription": 3}\n')
    with pytest.raises(ConfigError, match="A transcription is a text"):
        read_samples(str(tmp_path / "t.jsonl"), SPEECH)


def test_arrays(tmp_path: Path) -> None:
    """By the name audio, whatever the graph's input is called."""
    np.savez(tmp_path / "d.npz", audio=np.zeros((3, 100), np.float32), label=np.array([0, 1, 1]))
    samples = read_samples(
        str(tmp_path / "d.npz"), CLASSES, labels=("a", "b"), inputs=["input_values"], pictures=True
    )
    assert samples.labels == (0, 1, 1)
    assert np.shape(samples.inputs[0]["audio"]) == (100,)


@pytest.mark.parametrize("column", ["audio", "file_name"])
def test_a_table_beside_its_clips(column: str, calls: Path, tmp_path: Path) -> None:
    """The folder of the files that it names is no class."""
    lines = [f"{column},transcription", *(f"calls/no/{n}.wav,number {n}" for n in range(3))]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    check_data(str(tmp_path), SPEECH, labels_wanted=True)
    samples = read_samples(str(tmp_path), SPEECH)
    assert samples.labels == ("number 0", "number 1", "number 2")
    assert [Path(str(row["audio"])).name for row in samples.inputs] == ["0.wav", "1.wav", "2.wav"]


def test_classes_of_arrays_are_no_transcripts(tmp_path: Path) -> None:
    """They are not read, which is said; and refused where labels are asked for."""
    data = tmp_path / "d.npz"
    np.savez(data, audio=np.zeros((3, 100), np.float32), label=np.array([0, 1, 1]))
    samples = read_samples(str(data), SPEECH, pictures=True)
    assert samples.labels is None
    assert any("judged by transcription, not by classes" in note for note in samples.notes)
    check_data(str(data), SPEECH, pictures=True)
    for ask in (read_samples, check_data):
        with pytest.raises(ConfigError, match="judged by transcription, not by classes"):
            ask(str(data), SPEECH, pictures=True, labels_wanted=True)


@pytest.mark.parametrize("column", ["sentence", "text", "transcript"])
def test_transcripts_under_another_name(column: str, calls: Path, tmp_path: Path) -> None:
    """Somebody who asks for a budget has forgotten to map them."""
    (tmp_path / "t.csv").write_text(f"audio,{column}\ncalls/no/0.wav,hello\n")
    with pytest.raises(ConfigError, match=r"looks like labels|no column 'transcription'"):
        check_data(str(tmp_path / "t.csv"), SPEECH, labels_wanted=True)


def test_a_sentence_is_no_label_of_other_tasks(tmp_path: Path) -> None:
    """It is what they read, or would."""
    (tmp_path / "t.csv").write_text("text,sentence\na,b\n")
    check_data(str(tmp_path / "t.csv"), "text-classification", labels=("x",), labels_wanted=True)
