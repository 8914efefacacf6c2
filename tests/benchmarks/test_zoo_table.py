"""The zoo's table: every row is complete and its parts exist."""

from __future__ import annotations

import ast
import dataclasses
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.zoo.download import CLIENTS
from benchmarks.zoo.rows import Archive, Entry, fingerprint
from benchmarks.zoo.table import TABLE

ARCHIVES = [archive for entry in TABLE.values() for archive in entry.archives]


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.filename)
def test_archives_are_pinned(archive: Archive) -> None:
    """An archive names its version, its size and a whole sha256."""
    assert archive.client in CLIENTS
    assert archive.version in archive.filename
    assert archive.bytes > 0
    assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256)


@pytest.mark.parametrize("entry", TABLE.values(), ids=lambda entry: entry.name)
def test_converters_exist(entry: Entry) -> None:
    """A row's converter is a function of a module; read, for importing some brings in torch."""
    module, _, function = entry.converter.partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function in defined


@pytest.mark.parametrize("entry", TABLE.values(), ids=lambda entry: entry.name)
def test_rows_have_something_to_start_from(entry: Entry) -> None:
    """An entry is made of archives or of other entries, which stand before it in the table."""
    assert entry.archives or entry.needs
    order = list(TABLE)
    assert all(order.index(name) < order.index(entry.name) for name in entry.needs)


def test_pins_are_hashes() -> None:
    """Every pinned output has a whole sha256."""
    pins = [pin for entry in TABLE.values() for pin in entry.pins.values()]
    assert pins
    assert all(re.fullmatch(r"[0-9a-f]{64}", pin) for pin in pins)


def test_the_fingerprint_follows_the_content() -> None:
    """A new recipe changes the fingerprint of a row and of those made from it, a new text none."""
    raised = dict(TABLE) | {"minilm": dataclasses.replace(TABLE["minilm"], recipe=99)}
    reworded = dict(TABLE) | {"minilm": dataclasses.replace(TABLE["minilm"], summary="other")}
    for name in ("minilm", "minilm-sentiment"):
        before = fingerprint(TABLE[name], TABLE)
        assert fingerprint(raised[name], raised) != before
        assert fingerprint(reworded[name], reworded) == before
    assert fingerprint(raised["digits"], raised) == fingerprint(TABLE["digits"], TABLE)
