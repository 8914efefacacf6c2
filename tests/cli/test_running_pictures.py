"""`edgekit run` on pictures: paths, folders, patterns, and copies with what was found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from edgekit.cli.commands._pictures import KINDS, answer_mixed, media_files
from edgekit.cli.commands.running import _no_path
from edgekit.core.errors import ConfigError
from edgekit.core.manifest import TensorSpec
from edgekit.runtime.model import Model
from tests.cli.test_main import edgekit
from tests.runtime.conftest import Graph, write_bundle

SIZE = {"op": "resize", "size": {"height": 4, "width": 4}}


def _graph(name: str, shape: tuple[int | str, ...]) -> Graph:
    return Graph(
        [TensorSpec("pixel_values", "float32", ("batch", 3, 4, 4))],
        [TensorSpec(name, "float32", shape)],
    )


def _files(words: list[str]) -> Iterator[Path]:
    return media_files(words, KINDS["image"])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose classes are the strongest channel."""
    graph = _graph("logits", ("batch", 3))
    graph.weight("axes", np.array([2, 3], np.int64))
    graph.op("ReduceMean", "pixel_values", "axes", to="logits", keepdims=0)
    return write_bundle(
        tmp_path_factory.mktemp("run") / "classes",
        graph,
        task="image-classification",
        labels=("red", "green", "blue"),
        processor={"kind": "image", "ops": [SIZE], "post": {"kind": "image-classification"}},
    ).path


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that says of every pixel which channel is the strongest."""
    graph = _graph("logits", ("batch", 3, 4, 4))
    graph.op("Identity", "pixel_values", to="logits")
    return write_bundle(
        tmp_path_factory.mktemp("run") / "masks",
        graph,
        task="image-segmentation",
        labels=("red", "green", "blue"),
        processor={"kind": "image", "ops": [SIZE], "post": {"kind": "segmentation"}},
    ).path


def piped(lines: str, *words: object) -> subprocess.CompletedProcess[str]:
    """`edgekit run` with lines of standard input."""
    command = [sys.executable, "-m", "edgekit", "run", *map(str, words)]
    return subprocess.run(command, input=lines, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a text and a folder inside."""
    made = tmp_path / "album"
    (made / "inside").mkdir(parents=True)
    Image.new("RGB", (30, 20), (200, 0, 0)).save(made / "b.png")
    Image.new("RGB", (20, 30), (0, 0, 200)).save(made / "a.jpg")
    (made / "notes.txt").write_text("not a picture")
    return made


def test_paths_folders_and_patterns(folder: Path) -> None:
    """A folder gives its pictures by name; a path is taken at its word."""
    a, b, notes = folder / "a.jpg", folder / "b.png", folder / "notes.txt"
    assert list(_files([str(folder)])) == [a, b]
    assert list(_files([str(folder / "*.p?g"), str(notes), str(a)])) == [b, notes, a]
    for nothing in (str(folder / "inside"), str(folder / "*.gif")):
        with pytest.raises(ConfigError):
            list(_files([nothing]))


def test_pattern_that_is_a_name(tmp_path: Path) -> None:
    """A file may be called like a pattern."""
    path = tmp_path / "cat[1].png"
    path.write_bytes(b"")
    assert list(_files([str(path)])) == [path]


def test_answers_name_their_pictures(classifier: Path, folder: Path) -> None:
    """One line of JSON for each."""
    done = edgekit("run", classifier, folder)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["picture"]).name for line in lines] == ["a.jpg", "b.png"]
    assert [line["prediction"][0]["label"] for line in lines] == ["blue", "red"]


def test_masks_are_counted_and_drawn(segmenter: Path, folder: Path, tmp_path: Path) -> None:
    """JSON tells how large they are; the copy shows where."""
    out = tmp_path / "out"
    done = edgekit("run", segmenter, folder / "b.png", "--json", "--save", out)
    assert done.returncode == 0, done.stderr
    found: Any = json.loads(done.stdout)["predictions"]
    assert found[0]["prediction"] == [
        {"score": None, "label": "red", "mask": {"width": 30, "height": 20, "pixels": 600}}
    ]
    assert [path.name for path in out.iterdir()] == ["b.png"]
    assert Image.open(out / "b.png").size == (30, 20)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("notes.txt",), "is not a picture"),
        (("none.png",), "cannot be opened"),
        (("inside",), "holds no pictures"),
        (("b.png", "--save", "out"), "has neither"),
    ],
)
def test_wrong_inputs(
    given: tuple[str, ...], told: str, classifier: Path, folder: Path, tmp_path: Path
) -> None:
    """What was typed is at fault: exit code 2."""
    words = [folder / given[0], *given[1:2], *(tmp_path / name for name in given[2:])]
    done = edgekit("run", classifier, *words, "--json")
    assert done.returncode == 2, done.stderr
    assert told in json.loads(done.stdout)["error"]["message"]


def test_copies_never_replace_a_picture(segmenter: Path, folder: Path) -> None:
    """A folder to save in may be the one that the pictures are in, under the copies' names."""
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for given in (folder / "b.png", folder / "a.jpg", folder):
        done = edgekit("run", segmenter, given, "--save", folder, "--json")
        assert done.returncode == 2
        message = json.loads(done.stdout)["error"]["message"]
        assert "did not write" in message
        assert str(folder) in message
    assert before == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_copies_are_not_written_through_links(
    segmenter: Path, folder: Path, tmp_path: Path
) -> None:
    """Neither to a file that is there nor to one that would be."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").symlink_to(tmp_path / "elsewhere.png")
    done = edgekit("run", segmenter, folder / "b.png", "--save", tmp_path / "out")
    assert done.returncode == 2
    assert not (tmp_path / "elsewhere.png").exists()


def test_copies_of_one_name_are_numbered(segmenter: Path, folder: Path, tmp_path: Path) -> None:
    """Also where standard input is read in several parts, and where names differ by case."""
    other = folder / "inside" / "B.png"
    Image.new("RGB", (6, 5)).save(other)
    lines = "\n".join([str(folder / "b.png")] * 33 + [str(other)])
    done = piped(lines, segmenter, "--save", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"b.png", "B-34.png", *(f"b-{number}.png" for number in range(2, 34))}


def test_empty_words_are_no_folder(
    classifier: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument of nothing is told; a blank line is passed over."""
    monkeypatch.chdir(folder)
    for word in ("", " "):
        with pytest.raises(ConfigError, match="empty"):
            list(_files([word]))
    done = piped(f"\n{folder / 'b.png'}\n\n", classifier)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["picture"] for line in done.stdout.splitlines()] == [
        str(folder / "b.png")
    ]


def test_words_too_long_for_a_path() -> None:
    """They are taken as they are, and told when they are opened."""
    word = "x" * 5000
    assert list(_files([word])) == [Path(word)]
    with pytest.raises(ConfigError, match="No file matches"):
        list(_files([word + "*"]))


def test_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its permissions are told."""

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("edgekit.cli.commands._pictures.os.listdir", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        list(_files([str(folder)]))


def test_pictures_among_texts(folder: Path) -> None:
    """Files, folders and patterns are pictures and named with their answers; the rest is text."""
    asked: list[object] = []

    def model(items: list[object]) -> list[object]:
        asked.extend(items)
        return [len(asked)] * len(items)

    a, b = folder / "a.jpg", folder / "b.png"
    words = [str(folder), "a cat?", str(folder / "*.png"), '"and/or"', str(a)]
    found = list(answer_mixed(cast("Model", model), words, _no_path))
    assert asked == [a, b, {"text": "a cat?"}, b, {"text": "and/or"}, a]
    assert [one["picture"] if isinstance(one, dict) else None for one in found] == [
        str(a), str(b), None, str(b), None, str(a),
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["none.jpg", "photos/none", "photos/*.jpg"])
def test_paths_of_nothing_are_no_texts(word: str) -> None:
    """Their names would be embedded as words."""
    with pytest.raises(ConfigError, match="There is no file"):
        list(answer_mixed(cast("Model", None), [word], _no_path))
