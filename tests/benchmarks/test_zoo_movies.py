"""The movie snippets: which rows count, what they are called, and on which side they stand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.zoo.converters import movies
from benchmarks.zoo.converters.movies import Snippet
from benchmarks.zoo.errors import ZooError

MANY = [Snippet(f"Film number {n} is a film.", movies.LABELS[n % 2]) for n in range(2000)]


def test_labels_follow_the_rating() -> None:
    """Clear ratings become negative or positive, those near zero are left out."""
    table = b"1\t2.5\tGood.\r\n2\t-0.5\tWeak.\n3\t0.4\tSo so.\n4\t-0.49\tHm.\n5\t0.5\tFine."
    assert movies.parse(table) == [
        Snippet("Good.", "positive"),
        Snippet("Weak.", "negative"),
        Snippet("Fine.", "positive"),
    ]


def test_both_encodings_and_entities_are_read() -> None:
    """A line is UTF-8 or Latin-1, and escaped characters become plain ones."""
    table = "1\t1\tA clich\u00e9 &amp;  more\n".encode() + "2\t1\tJos\u00e9\n".encode("latin-1")
    assert [snippet.text for snippet in movies.parse(table)] == ["A cliché & more", "José"]


def test_another_layout_is_refused() -> None:
    """A line with other columns is an error that gives its number."""
    with pytest.raises(ZooError, match="Line 2 of the movie snippets has 2 columns"):
        movies.parse(b"1\t1\tGood.\n2\tGood.\n")


def test_the_sides_share_no_text() -> None:
    """Every snippet is on exactly one side, in about the wanted proportion."""
    train, held_out = movies.split(MANY)
    texts = {snippet.text for snippet in train}, {snippet.text for snippet in held_out}
    assert not texts[0] & texts[1]
    assert len(train) + len(held_out) == len(MANY)
    assert len(train) / len(MANY) == pytest.approx(movies.TRAIN_SHARE / 100, abs=0.05)


def test_like_texts_stay_together() -> None:
    """Case, punctuation, spaces and the label do not decide the side; only the first is kept."""
    alike = [
        Snippet("A 'great' film!", "positive"),
        Snippet("a great  film", "negative"),
        Snippet("A GREAT film...", "positive"),
    ]
    train, held_out = movies.split([*MANY, *alike])
    kept = [s for s in (*train, *held_out) if movies.canonical(s.text) == "a great film"]
    assert kept == alike[:1]
    assert len({movies.bucket(snippet.text) for snippet in alike}) == 1


def test_the_split_does_not_depend_on_order() -> None:
    """The same rows in another order give the same files."""
    assert movies.split(MANY) == movies.split(MANY[::-1])


def test_the_held_out_side_has_all_roles() -> None:
    """The split is independent of the hash by which edgekit gives rows their roles."""
    _, held_out = movies.split(MANY)
    roles = [int(hashlib.sha256(s.text.encode()).hexdigest(), 16) % 100 for s in held_out]
    assert sum(role >= 30 for role in roles) / len(roles) == pytest.approx(0.7, abs=0.05)


def test_files_come_back_as_written(tmp_path: Path) -> None:
    """Quotes, commas, line-like characters and accents survive the CSV."""
    rows = [Snippet('He said "go", so é', "negative"), Snippet("a\u2028b", "positive")]
    movies.write(tmp_path / "rows.csv", rows)
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8").startswith("text,label\n")
    assert movies.read(tmp_path / "rows.csv") == rows
