"""What `edgekit run` reads, refuses and tells."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.commands.running import _check_no_path, _text, _unquoted
from edgekit.core.errors import ConfigError
from tests.cli.test_main import edgekit
from tests.runtime.conftest import (
    LABELS,
    MAX_LENGTH,
    POSTS,
    linear_graph,
    processor,
    text_graph,
    write_bundle,
)

ONES = np.ones((2, 3), np.float32)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A custom bundle: y = 2a + b for float32 ``a`` and ``b`` of [batch, 3]."""
    folder = tmp_path_factory.mktemp("run") / "linear"
    return write_bundle(folder, linear_graph(), task="custom").path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that classifies texts of up to MAX_LENGTH tokens."""
    folder = tmp_path_factory.mktemp("run") / "texts"
    rules = processor(POSTS["classification"])
    graph = text_graph("classification")
    return write_bundle(
        folder, graph, task="text-classification", processor=rules, labels=LABELS
    ).path


def predict(bundle: Path, folder: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `edgekit run --json` on a file of arrays."""
    np.savez(folder / "x.npz", **arrays)  # type: ignore[arg-type]
    done = edgekit("run", bundle, folder / "x.npz", "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def piped(bundle: Path, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """`edgekit run --json` on a bundle, these bytes on standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", "run", str(bundle), "--json"],
        input=given, capture_output=True,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    return done


def refused(bundle: Path, given: bytes) -> tuple[int, dict[str, str]]:
    """(exit code, the error) of `piped`."""
    done = piped(bundle, given)
    return done.returncode, json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("line", "task", "value"),
    [
        ("a film", "fill-mask", "a film"),
        ("", "fill-mask", ""),
        ('["a", "b"]', "text-classification", ("a", "b")),
        (
            '{"text": "a", "text_pair": "b"}',
            "text-classification",
            {"text": "a", "text_pair": "b"},
        ),
        (
            '{"question": "q", "context": "c"}',
            "question-answering",
            {"question": "q", "context": "c"},
        ),
        ('["q", "c"]', "question-answering", ("q", "c")),
        ("[1] is a footnote", "text-classification", "[1] is a footnote"),
        ("[MASK]", "fill-mask", "[MASK]"),
        ("[" * 100_000, "text-classification", "[" * 100_000),
        (f"[{'1' * 5000}]", "text-classification", f"[{'1' * 5000}]"),
    ],
)
def test_line(line: str, task: str, value: object) -> None:
    """A line is a text unless it spells out a pair or a question."""
    assert _text(line, task) == value


@pytest.mark.parametrize(
    ("line", "task", "hint"),
    [
        ("[1,2]", "text-classification", '["a", "b"]'),
        ("[]", "feature-extraction", '["a", "b"]'),
        ('["a", "b", "c"]', "text-classification", '["a", "b"]'),
        ('{"question": "a"}', "text-classification", '["a", "b"]'),
        ('["a", "b"]', "token-classification", "each text as an argument"),
        ('{"question": "a"}', "question-answering", '{"question": "…", "context": "…"}'),
        ("a question alone", "question-answering", '{"question": "…", "context": "…"}'),
        (f"[{'1,' * 99}1]", "fill-mask", '["a", "b"]'),
    ],
)
def test_line_that_the_task_does_not_take(line: str, task: str, hint: str) -> None:
    """JSON that is neither pair nor question is refused with how they are written."""
    with pytest.raises(ConfigError) as caught:
        _text(line, task)
    assert hint in str(caught.value.hint)
    assert len(str(caught.value.message)) < 150


def test_arrays_are_answered(linear: Path, tmp_path: Path) -> None:
    """A file of arrays in, the outputs by name out."""
    code, out, _ = predict(linear, tmp_path, {"a": ONES, "b": ONES})
    assert code == 0
    assert json.loads(out) == {"predictions": [{"y": [[3.0] * 3] * 2}]}


@pytest.mark.parametrize(
    ("a", "told", "hint"),
    [
        (ONES.astype(np.float64), "got float64[2, 3]", ".astype('float32')"),
        (ONES[None], "got shape [1, 2, 3]", "batch axis"),
        (ONES[:, :2], "3 on axis 1", "Reshape"),
        (ONES[:1], "input 'a' has batch = 1", "same batch"),
        (np.array([[1, np.nan, 3], [4, 5, 6]], np.float32), "'a' holds 1 NaN", "come from"),
        (np.array([["x"] * 3] * 2), "got text[2, 3]", "real numbers"),
        (ONES.astype(np.complex64), "got complex64[2, 3]", "real numbers"),
    ],
    ids=["dtype", "rank", "size", "batch", "nan", "strings", "complex"],
)
def test_arrays_that_do_not_fit(
    linear: Path, tmp_path: Path, a: np.ndarray, told: str, hint: str
) -> None:
    """Exit 7, naming the input, what it is and what it should be."""
    code, out, _ = predict(linear, tmp_path, {"a": a, "b": ONES})
    error = json.loads(out)["error"]
    assert (code, error["kind"]) == (7, "InputMismatch")
    assert told in error["message"]
    assert hint in error["hint"]


def test_names_that_do_not_fit(linear: Path, tmp_path: Path) -> None:
    """A missing and an unknown name are told with those that are declared."""
    code, out, _ = predict(linear, tmp_path, {"a": ONES, "c": ONES})
    error = json.loads(out)["error"]
    assert (code, error["kind"]) == (7, "InputMismatch")
    assert "b missing; c unknown" in error["message"]
    assert "b float32[batch, 3]" in error["hint"]


def test_text_for_a_model_of_arrays(linear: Path) -> None:
    """A text where a file of arrays goes is a wrong path, with what the model takes."""
    done = edgekit("run", linear, "a great film", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"]) == (2, "ConfigError")
    assert "a .npz file with one array per input" in error["hint"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", ["no input", "a text as an argument"]),
        ("caf\xe9\n".encode("latin1"), ["not UTF-8", "line 1", "0xe9", "iconv"]),
        (b"fine\n\xff\n", ["not UTF-8", "line 2"]),
        (b"PK\x03\x04\xff", ["file of arrays", "reads texts"]),
    ],
    ids=["empty", "latin1", "second line", "archive"],
)
def test_standard_input_that_is_no_text(texts: Path, given: bytes, words: list[str]) -> None:
    """Exit 2: nothing, another encoding with its line, a file of arrays."""
    code, error = refused(texts, given)
    assert (code, error["kind"]) == (2, "ConfigError")
    for word in words:
        assert word in f"{error['message']} {error['hint']}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", ["no input", "a .npz file as an argument"]),
        (b"PK\x03\x04\x00\xff\n", ["file of arrays", "edgekit run BUNDLE FILE.npz"]),
    ],
    ids=["empty", "archive"],
)
def test_standard_input_that_names_no_arrays(linear: Path, given: bytes, words: list[str]) -> None:
    """Exit 2: a model of arrays reads the names of files from standard input, not their bytes."""
    code, error = refused(linear, given)
    assert (code, error["kind"]) == (2, "ConfigError")
    for word in words:
        assert word in f"{error['message']} {error['hint']}"


def test_lines_of_standard_input(texts: Path) -> None:
    """One answer per line, also where lines end as on Windows."""
    done = piped(texts, "a film\r\nçà et là\n".encode())
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads(
        edgekit("run", texts, "a film", "çà et là", "--json").stdout
    )


@pytest.mark.parametrize("text", ["[1,2]", '{"question": "a"}', "a \udcff text"])
def test_arguments_that_are_no_texts(texts: Path, text: str) -> None:
    """Exit 2, as any wrong argument."""
    done = edgekit("run", texts, text, "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"]) == (2, "ConfigError")


def test_empty_batch(linear: Path, tmp_path: Path) -> None:
    """Arrays without a sample are refused before the engine sees them."""
    code, out, _ = predict(linear, tmp_path, {"a": ONES[:0], "b": ONES[:0]})
    error = json.loads(out)["error"]
    assert (code, error["kind"]) == (7, "InputMismatch")
    assert "got shape [0, 3]: batch is empty" in error["message"]


@pytest.mark.parametrize("command", ["run", "verify"])
def test_help_of_engine(command: str) -> None:
    """It says that a compiled bundle is bound to its engine."""
    told = " ".join(edgekit(command, "--help").stdout.split())
    assert "A compiled bundle runs on its own only" in told


def test_arrays_for_a_model_of_texts(texts: Path, tmp_path: Path) -> None:
    """The name of a file of arrays is not classified as a text."""
    code, out, _ = predict(texts, tmp_path, {"input_ids": np.ones((1, 3), np.int64)})
    error = json.loads(out)["error"]
    assert (code, error["kind"]) == (2, "ConfigError")
    assert "x.npz is a file of arrays" in error["message"]
    assert edgekit("run", texts, '"nothing.npz"').returncode == 0


def test_infinity_in_an_answer(linear: Path, tmp_path: Path) -> None:
    """What JSON cannot hold is null in every form of the output, and said."""
    a = np.array([[np.inf, 1, 1]], np.float32)
    code, out, err = predict(linear, tmp_path, {"a": a, "b": ONES[:1]})
    assert code == 0
    assert json.loads(out) == {"predictions": [{"y": [[None, 3.0, 3.0]]}]}
    assert "Answer 1 holds NaN or infinity" in err
    line = edgekit("run", linear, tmp_path / "x.npz").stdout
    assert json.loads(line) == {"y": [[None, 3.0, 3.0]]}


def test_long_text_is_truncated_and_said(texts: Path) -> None:
    """Longer than the model takes: the answer to its beginning, and a line that tells it."""
    fits = " ".join(["film"] * (MAX_LENGTH - 2))
    longer = edgekit("run", texts, fits + " river" * 50, "--json")
    assert longer.returncode == 0
    told = f"longer than the {MAX_LENGTH} tokens the model takes and was truncated"
    assert told in longer.stderr
    short = edgekit("run", texts, fits, "--json")
    assert told not in short.stderr
    assert json.loads(longer.stdout) == json.loads(short.stdout)


@pytest.mark.parametrize("word", ["missing.csv", "photo.JPG", "no/such/thing"])
def test_a_path_that_is_not_there_is_no_sentence(word: str) -> None:
    """Exit 2 with how the same is given as a text."""
    with pytest.raises(ConfigError, match=f"There is no file {word}") as caught:
        _check_no_path(word)
    assert f"""'"{word}"'""" in str(caught.value.hint)


def test_a_file_is_no_sentence_either(tmp_path: Path) -> None:
    """Its name would be answered: its lines go to standard input."""
    path = tmp_path / "texts.txt"
    path.write_text("a film\n")
    with pytest.raises(ConfigError, match="is a file") as caught:
        _check_no_path(str(path))
    assert f"< {path}" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", ["film", "see a/b for it", "3.5", '["a/b", "c"]', '"and/or"', "v1.0", "e.g."]
)
def test_texts_are_no_paths(text: str) -> None:
    """Words, sentences and JSON are answered."""
    _check_no_path(text)


@pytest.mark.parametrize(("word", "text"), [('"and/or"', "and/or"), ('"a" b', '"a" b'), ("a", "a")])
def test_a_json_string_is_its_text(word: str, text: str) -> None:
    """So that anything can be given; quotes inside of a sentence stay."""
    assert _unquoted(word) == text


def test_a_missing_file_as_the_only_argument(texts: Path) -> None:
    """By the command; among several texts nothing is taken for a path."""
    done = edgekit("run", texts, "missing.csv", "--json")
    assert done.returncode == 2
    assert "There is no file missing.csv" in json.loads(done.stdout)["error"]["message"]
    assert edgekit("run", texts, '"missing.csv"', "--json").returncode == 0
    assert edgekit("run", texts, "and/or", "a film", "--json").returncode == 0
