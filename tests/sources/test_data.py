"""DATA: what is read, what role it has, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import ConfigError
from edgekit.sources.data import Samples, check_data, parse_columns, read_samples
from edgekit.sources.data_roles import hash_inputs, role_of

TASK = "text-classification"
NAMES = ("negative", "neutral", "positive")


def write_csv(path: Path, rows: Sequence[dict[str, object]], delimiter: str = ",") -> str:
    """Write rows with a header; the path as DATA."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def reviews(count: int) -> list[dict[str, object]]:
    """Labelled texts, all different."""
    return [{"text": f"review number {i}", "label": NAMES[i % 3]} for i in range(count)]


def test_labels_become_the_models_classes(tmp_path: Path) -> None:
    """Names and numbers of the data are the class numbers of the model."""
    labels = ("Positive", "0", "neutral")
    rows = [{"text": text, "label": label} for text, label in zip("abc", labels, strict=True)]
    data = write_csv(tmp_path / "d.csv", rows)
    samples = read_samples(data, TASK, labels=NAMES)
    assert samples.labels == (2, 0, 1)
    assert samples.problem == "single_label_classification"
    assert [row["text"] for row in samples.inputs] == ["a", "b", "c"]


def test_a_name_wins_over_a_number(tmp_path: Path) -> None:
    """Five stars called "1" to "5" are not the classes 1 to 5."""
    data = write_csv(tmp_path / "d.csv", [{"text": "a", "label": 5}, {"text": "b", "label": 1}])
    assert read_samples(data, TASK, labels=("1", "2", "3", "4", "5")).labels == (4, 0)


def test_columns_are_mapped(tmp_path: Path) -> None:
    """The file's own names stand behind the task's."""
    data = write_csv(tmp_path / "d.csv", [{"review": "x", "stars": 1, "text": "not this"}])
    samples = read_samples(
        data, TASK, columns=parse_columns("text=review,label=stars"), labels=NAMES
    )
    assert (samples.inputs[0]["text"], samples.labels) == ("x", (1,))


def test_pairs_and_regression(tmp_path: Path) -> None:
    """A second text is an input where the column is there; one label means a number."""
    data = write_csv(tmp_path / "d.csv", [{"text": "a", "text_pair": "b", "label": "3.5"}])
    samples = read_samples(data, TASK, labels=("similarity",))
    assert samples.inputs[0] == {"text": "a", "text_pair": "b"}
    assert samples.labels == (3.5,)
    assert samples.problem == "regression"


@pytest.mark.parametrize("cell", ['["neutral", "positive"]', "neutral,positive", "[1, 2]"])
def test_several_labels_come_as_a_list(tmp_path: Path, cell: str) -> None:
    """JSON in a cell, or names between commas."""
    data = write_csv(tmp_path / "d.csv", [{"text": "a", "label": cell}, {"text": "b", "label": ""}])
    samples = read_samples(data, TASK, labels=NAMES, problem="multi_label_classification")
    assert samples.labels == ((1, 2), ())


def test_a_list_makes_the_problem_multi_label(tmp_path: Path) -> None:
    """Where the model does not say, the first label does."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": ["neutral"]}\n{"text": "b", "label": []}\n')
    samples = read_samples(str(path), TASK, labels=NAMES)
    assert samples.problem == "multi_label_classification"
    assert samples.labels == ((1,), ())


def test_tokens_with_tags(tmp_path: Path) -> None:
    """Lists in JSON, words between blanks in CSV; -100 stays what it is."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"tokens": ["a", "b", "c"], "tags": ["O", "PER", -100]}\n')
    samples = read_samples(str(path), "token-classification", labels=("O", "PER"))
    assert samples.inputs[0] == {"tokens": ("a", "b", "c")}
    assert samples.labels == ((0, 1, -100),)
    data = write_csv(tmp_path / "d.csv", [{"tokens": "a b c", "tags": "O PER O"}])
    again = read_samples(data, "token-classification", labels=("O", "PER"))
    assert again.labels == ((0, 1, 0),)
    assert again.hashes == samples.hashes


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("Paris", ("Paris",)),
        (["Paris", "paris"], ("Paris", "paris")),
        ({"text": ["Paris"], "answer_start": [3]}, ("Paris",)),
        ({"text": [], "answer_start": []}, ("",)),
    ],
)
def test_answers_in_every_form(tmp_path: Path, answers: object, expected: object) -> None:
    """A text, a list, SQuAD's object, and a question without an answer."""
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"question": "q", "context": "c", "answers": answers}))
    assert read_samples(str(path), "question-answering").labels == (expected,)


def test_scores_and_unlabelled_texts(tmp_path: Path) -> None:
    """Embeddings are judged by similarity scores where there are some, else by agreement."""
    data = write_csv(tmp_path / "d.csv", [{"text": "a", "text_pair": "b", "score": "0.25"}])
    assert read_samples(data, "feature-extraction").labels == (0.25,)
    bare = write_csv(tmp_path / "e.csv", [{"text": "a"}])
    samples = read_samples(bare, "feature-extraction")
    assert samples.labels is None
    assert "agreement" in samples.notes[0]


def test_roles_follow_from_the_content(tmp_path: Path) -> None:
    """Below 10 of 100 calibration, below 30 search, the rest verdict, whatever the order."""
    rows = reviews(1000)
    data = write_csv(tmp_path / "d.csv", rows)
    turned = write_csv(tmp_path / "e.csv", rows[::-1])
    samples = read_samples(data, TASK, labels=NAMES)
    for digest in samples.hashes:
        place = int(digest, 16) % 100
        assert role_of(digest) == (
            "calibration" if place < 10 else "search" if place < 30 else "verdict"
        )
    parts = {role: samples.role(role) for role in ("calibration", "search", "verdict")}
    sizes = [len(part) for part in parts.values()]
    assert sum(sizes) == 1000
    assert np.allclose(np.array(sizes) / 1000, [0.1, 0.2, 0.7], atol=0.05)
    again = read_samples(turned, TASK, labels=NAMES, role="verdict")
    assert set(again.hashes) == set(parts["verdict"].hashes)


def test_the_label_does_not_move_a_sample(tmp_path: Path) -> None:
    """Duplicates with other labels stay together."""
    data = write_csv(
        tmp_path / "d.csv", [{"text": "same", "label": 0}, {"text": "same", "label": 1}]
    )
    first, second = read_samples(data, TASK, labels=NAMES).hashes
    assert first == second


def test_a_limit_is_a_reproducible_sample(tmp_path: Path) -> None:
    """The same seed picks the same rows, wherever they stand; another seed picks others."""
    rows = reviews(500)
    data = write_csv(tmp_path / "d.csv", rows)
    turned = write_csv(tmp_path / "e.csv", rows[::-1])

    def picked(path: str, seed: int) -> set[str]:
        found = read_samples(path, TASK, labels=NAMES, role="verdict", limit=40, seed=seed)
        assert len(found) == 40
        return set(found.hashes)

    assert picked(data, 1) == picked(turned, 1)
    assert picked(data, 1) != picked(data, 2)


def test_a_limited_sample_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    """Rows come as they stand."""
    data = write_csv(tmp_path / "d.csv", reviews(100))
    texts = [str(row["text"]) for row in read_samples(data, TASK, labels=NAMES, limit=20).inputs]
    assert texts == sorted(texts, key=lambda text: int(text.split()[-1]))


def test_used_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    """What calibration saw is not judged again."""
    data = write_csv(tmp_path / "d.csv", reviews(200))
    samples = read_samples(data, TASK, labels=NAMES, role="verdict")
    used = samples.row_hashes[:7]
    assert all(len(row) == 16 for row in used)
    again = read_samples(data, TASK, labels=NAMES, role="verdict", exclude=used)
    assert (len(again), again.excluded) == (len(samples) - 7, 7)
    limited = read_samples(data, TASK, labels=NAMES, role="verdict", exclude=used, limit=40)
    assert (len(limited), limited.eligible, limited.read) == (40, len(samples), 200)
    assert read_samples(data, TASK, labels=NAMES).role("verdict").eligible == len(samples)
    assert samples.without(used).hashes == again.hashes
    assert samples.without(used).excluded == 7


def test_too_few_rows_for_a_verdict(tmp_path: Path) -> None:
    """Fewer than 30 rows of the verdict are refused, with their number."""
    data = write_csv(tmp_path / "d.csv", reviews(30))
    with pytest.raises(ConfigError, match="at least 30"):
        read_samples(data, TASK, labels=NAMES, role="verdict")
    with pytest.raises(ConfigError, match="at least 30"):
        read_samples(data, TASK, labels=NAMES).role("verdict")
    large = write_csv(tmp_path / "e.csv", reviews(300))
    with pytest.raises(ConfigError, match="at least 30"):
        read_samples(large, TASK, labels=NAMES, role="verdict", limit=29)


def test_arrays_of_a_custom_model(tmp_path: Path) -> None:
    """One array per input, the first axis counts samples; integers are classes, floats values."""
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    classes, values = tmp_path / "c.npz", tmp_path / "v.npz"
    np.savez(classes, x=x, label=np.arange(50) % 4)
    np.savez(values, x=x, label=x * 2)
    samples = read_samples(str(classes), "custom", inputs=("x",))
    assert samples.labels is not None
    assert samples.labels[:5] == (0, 1, 2, 3, 0)
    assert samples.problem == "single_label_classification"
    np.testing.assert_array_equal(samples.inputs[3]["x"], x[3])
    regression = read_samples(str(values), "custom", inputs=("x",))
    assert regression.problem == "regression"
    assert regression.labels is not None
    assert regression.labels[0] == pytest.approx(tuple((x[0] * 2).tolist()))
    np.savez(tmp_path / "u.npz", x=x)
    assert read_samples(str(tmp_path / "u.npz"), "custom", inputs=("x",)).labels is None


def test_arrays_are_mapped_like_columns(tmp_path: Path) -> None:
    """``--columns`` names arrays, too."""
    np.savez(tmp_path / "d.npz", pixels=np.zeros((4, 2)), digit=np.arange(4))
    samples = read_samples(
        str(tmp_path / "d.npz"), "custom", inputs=("image",),
        columns={"image": "pixels", "label": "digit"},
    )  # fmt: skip
    assert samples.labels == (0, 1, 2, 3)
    assert list(samples.inputs[0]) == ["image"]


def test_taking_rows_keeps_them_together() -> None:
    """Inputs, labels and hashes of the same rows."""
    samples = Samples(
        "custom", ({"x": np.ones(1)}, {"x": np.zeros(1)}), (1, 0), ("a" * 64, "b" * 64)
    )
    taken = samples.take([1])
    assert (taken.labels, taken.hashes, len(taken)) == ((0,), ("b" * 64,), 1)


BAD_TABLES = {
    "missing column": ("review,label\nx,neutral\n", {}, "no column 'text'", "review"),
    "mistyped label column": ("text,lable\nx,neutral\n", {}, "no column 'label'", "lable"),
    "unknown label": ("text,label\nx,angry\n", {}, "unknown to the model", "Class numbers"),
    "label beyond the classes": ("text,label\nx,7\n", {}, "unknown to the model", "0…2"),
    "empty label": ("text,label\nx,\n", {}, "label is empty", "Drop"),
    "mapped column not there": (
        "text,label\nx,neutral\n", {"text": "body"}, "no column 'body'", "--columns",
    ),
    "unknown name in the mapping": (
        "text,label\nx,neutral\n", {"txt": "text"}, "does not read", "text",
    ),
    "no rows": ("text,label\n", {}, "no rows", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused(tmp_path: Path, name: str) -> None:
    """A configuration error that names what is there and what to do."""
    text, columns, fact, hint = BAD_TABLES[name]
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=fact) as caught:
        read_samples(str(path), TASK, columns=columns, labels=NAMES)
    assert hint in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_row_of_a_bad_label_is_named(tmp_path: Path) -> None:
    """People can go and look."""
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,neutral\nb,positive\nc,angry\n")
    with pytest.raises(ConfigError, match=r"row 3.*negative, neutral, positive"):
        read_samples(str(path), TASK, labels=NAMES)


BAD_ARRAYS = {
    "no array for the input": ({"y": np.ones((3, 2))}, "no array 'x'"),
    "different numbers": ({"x": np.ones((3, 2)), "label": np.ones(4)}, "different numbers"),
    "texts as labels": ({"x": np.ones((3, 2)), "label": np.array(["a"] * 3)}, "have the type"),
    "no samples": ({"x": np.ones((0, 2))}, "no rows"),
    "a scalar": ({"x": np.ones((3, 2)), "label": np.array(1)}, "different numbers"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_are_refused(tmp_path: Path, name: str) -> None:
    """Each with the fact that is wrong."""
    arrays, fact = BAD_ARRAYS[name]
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(ConfigError, match=fact):
        read_samples(str(tmp_path / "d.npz"), "custom", inputs=("x",))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    """An array of objects is a pickle inside, and refused."""
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match="plain arrays"):
        read_samples(str(tmp_path / "d.npz"), "custom", inputs=("x",))
    (tmp_path / "e.npz").write_bytes(b"not a zip")
    with pytest.raises(ConfigError, match="plain arrays"):
        read_samples(str(tmp_path / "e.npz"), "custom", inputs=("x",))


def test_a_custom_model_takes_no_table(tmp_path: Path) -> None:
    """The error says what to write instead."""
    data = write_csv(tmp_path / "d.csv", reviews(3))
    with pytest.raises(ConfigError, match="reads arrays"):
        read_samples(data, "custom")


@pytest.mark.parametrize("text", ["text", "text=", "=review", "text=a,,label=b", "text=a,text=b"])
def test_wrong_columns_are_refused(text: str) -> None:
    """Only pairs, each name once."""
    with pytest.raises(ConfigError, match="--columns"):
        parse_columns(text)


def test_no_columns_are_no_mapping() -> None:
    """Nothing given, nothing mapped."""
    assert parse_columns(None) == parse_columns("") == {}


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    """Zero rows are no sample."""
    with pytest.raises(ConfigError, match="--limit"):
        read_samples(write_csv(tmp_path / "d.csv", reviews(3)), TASK, limit=0)


def test_half_a_surrogate_pair_is_named(tmp_path: Path) -> None:
    """JSON can hold what is no Unicode text; its row is named."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "ok"}\n{"text": "\\ud800"}\n')
    with pytest.raises(ConfigError, match="row 2"):
        read_samples(str(path), "fill-mask")


def test_a_number_where_a_text_goes(tmp_path: Path) -> None:
    """Inputs are never converted silently."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": 5}\n')
    with pytest.raises(ConfigError, match="should be a text"):
        read_samples(str(path), "fill-mask")


def verdict_texts(count: int) -> list[str]:
    """So many different texts whose role is the verdict."""
    found = (f"text {i}" for i in range(10 * count + 100))
    return [text for text in found if role_of(hash_inputs({"text": text})) == "verdict"][:count]


def test_copies_prove_nothing(tmp_path: Path) -> None:
    """A row that says what another said is left out of the verdict, and told."""
    rows = [{"text": text, "label": "neutral"} for text in verdict_texts(40)]
    data = write_csv(tmp_path / "d.csv", rows * 5)
    samples = read_samples(data, TASK, labels=NAMES, role="verdict")
    assert (len(samples), samples.read, samples.eligible, samples.repeated) == (40, 200, 40, 160)
    assert samples.rows == tuple(range(1, 41))
    assert "160 rows repeat another" in samples.notes[-1]
    whole = read_samples(data, TASK, labels=NAMES)
    assert (len(whole), whole.repeated, whole.notes) == (200, 0, ())
    chosen = whole.role("verdict")
    assert (chosen.hashes, chosen.repeated, chosen.notes) == (samples.hashes, 160, samples.notes)


def test_copies_are_found_under_a_limit(tmp_path: Path) -> None:
    """The limit counts different rows."""
    rows = [{"text": text, "label": "neutral"} for text in verdict_texts(60)]
    data = write_csv(tmp_path / "d.csv", rows * 3)
    samples = read_samples(data, TASK, labels=NAMES, role="verdict", limit=50)
    assert len(set(samples.hashes)) == len(samples) == 50
    assert (samples.eligible, samples.repeated) == (60, 120)


def test_the_same_input_with_another_label_stays(tmp_path: Path) -> None:
    """Two people who judge one text are two samples."""
    texts = verdict_texts(30)
    rows = [{"text": text, "label": label} for text in texts for label in NAMES[:2]]
    samples = read_samples(write_csv(tmp_path / "d.csv", rows), TASK, labels=NAMES, role="verdict")
    assert (len(samples), samples.repeated, samples.notes) == (60, 0, ())


def test_a_verdict_takes_thirty_different_rows(tmp_path: Path) -> None:
    """Thirty copies are one sample, thirty opinions on one text as well."""
    text = verdict_texts(1)[0]
    copies = write_csv(tmp_path / "d.csv", [{"text": text, "label": 0}] * 500)
    with pytest.raises(ConfigError, match="500 rows, 499 of them copies, of which 1 are left"):
        read_samples(copies, TASK, labels=NAMES, role="verdict")
    opinions = write_csv(tmp_path / "e.csv", [{"text": text, "label": i / 50} for i in range(50)])
    with pytest.raises(ConfigError, match=r"of which 1 \(copies counted once\)"):
        read_samples(opinions, TASK, labels=("score",), role="verdict")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_of_arrays_are_finite(tmp_path: Path, value: float) -> None:
    """A label that is no number is told with its row."""
    labels = np.arange(60.0)
    labels[2] = value
    np.savez(tmp_path / "d.npz", x=np.arange(60.0)[:, None], label=labels)
    with pytest.raises(ConfigError, match=f"row 3: the label is {value}"):
        read_samples(str(tmp_path / "d.npz"), "custom", inputs=["x"])


LABELS_ELSEWHERE = {
    "its name": "text,stars\na,9\nb,8\n",
    "its classes": "text,mood\na,positive\nb,negative\n",
}


@pytest.mark.parametrize("name", LABELS_ELSEWHERE)
def test_labels_that_nobody_mapped_are_refused_where_they_count(tmp_path: Path, name: str) -> None:
    """A budget of accuracy never turns into one of agreement without a word."""
    path = tmp_path / "d.csv"
    path.write_text(LABELS_ELSEWHERE[name])
    with pytest.raises(ConfigError, match="looks like labels") as caught:
        read_samples(str(path), TASK, labels=NAMES, labels_wanted=True)
    assert "--columns label=" in str(caught.value.hint)
    found = read_samples(str(path), TASK, labels=NAMES)
    assert found.labels is None
    assert "not whether that is right" in found.notes[0]


def test_other_columns_are_no_labels(tmp_path: Path) -> None:
    """A number for each row, or what a model has no class for, is left alone."""
    path = tmp_path / "d.csv"
    path.write_text("text,row,source\n" + "".join(f"t{n},{n},web\n" for n in range(9)))
    found = read_samples(str(path), TASK, labels=NAMES, labels_wanted=True)
    assert found.labels is None


def test_labels_of_arrays_that_nobody_mapped(tmp_path: Path) -> None:
    """As of tables; one that is mapped has to be there."""
    path = str(tmp_path / "d.npz")
    np.savez(path, x=np.ones((3, 2)), classes=np.ones(3, int))
    with pytest.raises(ConfigError, match="'classes' looks like labels"):
        read_samples(path, "custom", inputs=("x",), labels_wanted=True)
    assert "classes not read" in read_samples(path, "custom", inputs=("x",)).notes[0]
    mapped = read_samples(path, "custom", columns={"label": "classes"}, inputs=("x",))
    assert mapped.labels == (1, 1, 1)
    with pytest.raises(ConfigError, match="no array 'clases'"):
        read_samples(path, "custom", columns={"label": "clases"}, inputs=("x",))


@pytest.mark.parametrize("name", ["column not there", "no rows", "misspelt label", "no text"])
def test_a_look_finds_what_the_head_tells(tmp_path: Path, name: str) -> None:
    """Before a model is loaded: the columns and the first row; no label is read."""
    texts = {
        "column not there": "body,label\nx,neutral\n",
        "no rows": "text,label\n",
        "misspelt label": "text,lable\nx,neutral\n",
        "no text": "text,label\nx\n",
    }
    path = tmp_path / "d.csv"
    path.write_text(texts[name])
    with pytest.raises(ConfigError):
        check_data(str(path), TASK, labels=NAMES)
    path.write_text("text,label\nx,angry\n")
    check_data(str(path), TASK, labels=NAMES)
    with pytest.raises(ConfigError, match="no data at"):
        check_data(str(tmp_path / "none.csv"), TASK)


def test_a_row_without_a_column_is_told(tmp_path: Path) -> None:
    """Objects may have other names, row by row."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a", "label": 0}\n{"txt": "b", "label": 0}\n')
    with pytest.raises(ConfigError, match="row 2: it has no 'text', only txt, label"):
        read_samples(str(path), TASK)
