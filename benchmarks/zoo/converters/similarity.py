"""`similarity`: texts and how alike people found them (Lee's 50 documents, WordSim353)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_DATA = "gensim/test/test_data/"
_LICENSE = "gensim-4.4.0.dist-info/licenses/COPYING"

DOCUMENTS_FILE = "documents.jsonl"
PAIRS_FILE = "pairs.csv"
LEE_FILE = "lee.csv"
WORDS_FILE = "wordsim353.csv"


def build(bench: Bench) -> None:
    """Write documents, pairs by document number, and both sets as `text,text_pair,score`."""
    wheel = bench.archives["gensim"]
    documents = read_documents(members.read_zip(wheel, _DATA + "lee.cor"))
    scores = read_scores(members.read_zip(wheel, _DATA + "similarities0-1.txt"), len(documents))
    words = read_words(members.read_zip(wheel, _DATA + "wordsim353.tsv"))
    with (bench.target / DOCUMENTS_FILE).open("w", encoding="utf-8", newline="") as file:
        for number, text in enumerate(documents):
            file.write(json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n")
    _write(bench.target / PAIRS_FILE, ("first", "second", "score"), scores)
    texts = ((documents[first], documents[second], score) for first, second, score in scores)
    _write(bench.target / LEE_FILE, ("text", "text_pair", "score"), texts)
    _write(bench.target / WORDS_FILE, ("text", "text_pair", "score"), words)
    (bench.target / "LICENSE").write_bytes(members.read_zip(wheel, _LICENSE))
    bench.say(f"{len(documents)} documents, {len(scores)} pairs; {len(words)} word pairs")


def read_documents(corpus: bytes) -> list[str]:
    """Return the documents of a corpus in Latin-1 with one document a line."""
    return [line.strip() for line in corpus.decode("latin-1").split("\n") if line.strip()]


def read_scores(matrix: bytes, documents: int) -> list[tuple[int, int, float]]:
    """Return (first, second, score) above the diagonal; scores go from 0 to 1.

    Of a symmetric matrix the file holds the upper half, with zeros below.
    """
    rows = [line.split() for line in matrix.decode("ascii").splitlines() if line.strip()]
    if len(rows) != documents or any(len(row) != documents for row in rows):
        raise ZooError(
            f"The similarity matrix has {len(rows)} rows for {documents} documents. "
            "The package's files do not belong together: look at them."
        )
    return [
        (first, second, float(rows[first][second]))
        for first in range(documents)
        for second in range(first + 1, documents)
    ]


def read_words(table: bytes) -> list[tuple[str, str, float]]:
    """Return (word, word, score) of a table with tabs; scores go from 0 to 10."""
    lines = [line for line in table.decode("utf-8").splitlines() if line.strip()]
    cells = (line.split("\t") for line in lines if not line.startswith("#"))
    return [(first, second, float(score)) for first, second, score in cells]


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)
