"""A full disk is found out where a library keeps the reason to itself."""

from __future__ import annotations

import errno
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from edgekit.core.errors import os_error_number
from edgekit.graph.disk import raise_if_full

Usage = namedtuple("Usage", ["total", "used", "free"])


def test_room_is_left_alone(tmp_path: Path) -> None:
    """Where files can be written nothing is raised, and nothing is left."""
    raise_if_full(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with some kilobytes left is full: a buffer's tail did not fit."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 4096))
    with pytest.raises(OSError, match="No space left") as caught:
        raise_if_full(tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_limit_on_the_size_of_a_file(tmp_path: Path) -> None:
    """A limit or a quota on a disk with plenty of space is found by writing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            raise_if_full(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os_error_number(caught.value) == errno.EFBIG
    assert list(tmp_path.iterdir()) == []
