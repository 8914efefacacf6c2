"""`movies`: rated movie review snippets as two files of text and label that share no snippet."""

from __future__ import annotations

import csv
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_SDIST = "vaderSentiment-3.3.2/"
_OUTER = _SDIST + "additional_resources/hutto_ICWSM_2014.tar.gz"
_INNER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

TRAIN_FILE = "movies-train.csv"
HELD_OUT_FILE = "movies.csv"
LABELS = ("negative", "positive")

#: Ratings go from -4 to 4; nearer to zero than this a snippet is neither good nor bad.
CLEAR = 0.5

#: Per cent of the snippets that go into training. The rest must be large: 70 % of it are
#: verdict rows, and a verdict wants 4,000 of them.
TRAIN_SHARE = 40

# edgekit gives rows their roles (calibration, search, verdict) by an unsalted hash of the text.
# The same hash here would leave the held-out file with some of these roles only.
_SALT = b"benchmarks.zoo movies split 1\0"


@dataclass(frozen=True)
class Snippet:
    """One sentence or two about a film, and which of LABELS its readers gave it."""

    text: str
    label: str


def build(bench: Bench) -> None:
    """Write both files, `text,label`, in an order that tells nothing about the label."""
    sdist = bench.archives["vaderSentiment"]
    snippets = parse(members.read_tar(members.read_tar(sdist, _OUTER), _INNER))
    train, held_out = split(snippets)
    write(bench.target / TRAIN_FILE, train)
    write(bench.target / HELD_OUT_FILE, held_out)
    (bench.target / "LICENSE").write_bytes(members.read_tar(sdist, _SDIST + "LICENSE.txt"))
    bench.say(f"{len(train)} snippets to train on, {len(held_out)} held out")


def parse(table: bytes) -> list[Snippet]:
    """Return the clearly rated snippets of a file with lines `id TAB mean rating TAB text`.

    Most lines are UTF-8 and a few are Latin-1, so each is decoded by itself.
    """
    snippets = []
    for number, line in enumerate(table.splitlines(), 1):
        if not line.strip():
            continue
        cells = _decode(line).split("\t")
        if len(cells) != 3:
            raise ZooError(
                f"Line {number} of the movie snippets has {len(cells)} columns, expected 3. "
                "The package's file has changed: look at it and adapt the converter."
            )
        rating = float(cells[1])
        if abs(rating) >= CLEAR:
            text = " ".join(html.unescape(cells[2]).split())
            snippets.append(Snippet(text, LABELS[rating > 0]))
    return snippets


def split(snippets: Iterable[Snippet]) -> tuple[list[Snippet], list[Snippet]]:
    """Return (train, held out); texts equal but for case and punctuation keep together.

    Where a text comes several times only the first is kept, whatever its label.
    """
    ordered: dict[str, Snippet] = {}
    for snippet in snippets:
        ordered.setdefault(_digest(snippet.text), snippet)
    kept = [ordered[digest] for digest in sorted(ordered)]
    train = [snippet for snippet in kept if bucket(snippet.text) < TRAIN_SHARE]
    return train, [snippet for snippet in kept if bucket(snippet.text) >= TRAIN_SHARE]


def bucket(text: str) -> int:
    """Return the place of a text, 0 to 99, by its content alone; below TRAIN_SHARE is training."""
    return int(_digest(text), 16) % 100


def canonical(text: str) -> str:
    """Return the words of a text, case folded, one space apart."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def write(path: Path, snippets: Iterable[Snippet]) -> None:
    """Write snippets as CSV in UTF-8 with the header `text,label`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("text", "label"))
        out.writerows((snippet.text, snippet.label) for snippet in snippets)


def read(path: Path) -> list[Snippet]:
    """Return the snippets of a file that `write` made."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Snippet(row["text"], row["label"]) for row in csv.DictReader(file)]


def _digest(text: str) -> str:
    return hashlib.sha256(_SALT + canonical(text).encode()).hexdigest()


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
