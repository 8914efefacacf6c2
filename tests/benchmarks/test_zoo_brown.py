"""The Brown corpus: tagged words become texts as they were printed."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

from benchmarks.zoo import members
from benchmarks.zoo.converters import brown

SAMPLE = b"""
\tThe/at jury/nn said/vbd ``/`` no/at proof/nn ''/'' (/( and/cc more/ap )/) was/bedz found/vbn ./.


\tWho/wps said/vbd either/or\\/or/cc ?/. --/-- Nobody/pn ;/. Atlanta's/np$
"""


def test_words_become_sentences() -> None:
    """Without their tags; marks stand where a printer puts them."""
    assert list(brown.sentences(SAMPLE)) == [
        'The jury said "no proof" (and more) was found.',
        "Who said either/or\\/or? -- Nobody; Atlanta's",
    ]


def test_passages_are_of_a_hundred_words_and_more() -> None:
    """What is left at the end of a sample goes with the last."""
    line = " ".join(["word"] * 30)
    found = list(brown.passages([line] * 9))
    assert [len(text.split()) for text in found] == [120, 150]
    assert list(brown.passages([line])) == [line]
    assert list(brown.passages([])) == []


def test_files_are_found_by_their_names(tmp_path: Path) -> None:
    """Those of the genres a to h alone, wherever they lie in the archive."""
    path = tmp_path / "p.tgz"
    with tarfile.open(path, "w:gz") as bag:
        for name in ("package/ca01", "package/x/ch30", "package/cj01", "package/ca01.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            bag.addfile(info, io.BytesIO(name.encode()))
    found = members.match_tar(path, brown._NAME)
    assert found == {"a01": b"package/ca01", "h30": b"package/x/ch30"}
    assert members.match_tar(path, re.compile(r"(none)")) == {}
