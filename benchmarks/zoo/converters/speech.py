"""`speech`: sentences that one speaker recorded for telephone exchanges, with what she says."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_SOUNDS = "./usr/share/asterisk/sounds/en_US_f_Allison/"
_DOC = "./usr/share/doc/asterisk-core-sounds-en/"
_LINE = re.compile(r"([\w/-]+): (.+)")
#: Words of a sentence at least: single letters, digits and tones tell nothing.
_WORDS = 3
_COUNT = 281


def build(bench: Bench) -> None:
    """Write ``NAME.wav`` for each sentence, and ``speech.csv`` with audio and transcription."""
    doc = members.read_deb(bench.archives["asterisk-core-sounds-en"], _DOC)
    sounds = members.read_deb(bench.archives["asterisk-core-sounds-en-wav"], _SOUNDS)
    rows = []
    for name, said in sentences(_file(doc, "core-sounds-en.txt.gz")):
        sound = sounds.get(f"{_SOUNDS}{name}.wav")
        if sound is not None:
            file = f"{name.replace('/', '-')}.wav"
            (bench.target / file).write_bytes(sound)
            rows.append((file, said))
    if len(rows) != _COUNT:
        raise ZooError(f"The packages hold {len(rows)} sentences, not {_COUNT}.")
    with (bench.target / "speech.csv").open("w", encoding="utf-8", newline="") as file_:
        out = csv.writer(file_, lineterminator="\n")
        out.writerow(("audio", "transcription"))
        out.writerows(rows)
    (bench.target / "LICENSE").write_bytes(_file(doc, "copyright"))


def sentences(listed: bytes) -> Iterator[tuple[str, str]]:
    """Name and text of each sentence of some words; sounds in brackets are none."""
    for line in gzip.decompress(listed).decode("utf-8").splitlines():
        found = _LINE.match(line)
        if found and "[" not in found[2] and len(found[2].split()) >= _WORDS:
            yield found[1], " ".join(found[2].split())


def _file(held: Mapping[str, bytes], name: str) -> bytes:
    try:
        return held[_DOC + name]
    except KeyError:
        raise ZooError(f"The package of transcripts holds no {name}.") from None
