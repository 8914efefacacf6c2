"""The folder in which a step works."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError, QuantizeError
from edgekit.pipeline.workplace import workplace


def test_it_lies_on_the_disk_of_the_output_and_goes(tmp_path: Path) -> None:
    """Also where the output's own folder is not there yet."""
    with workplace(tmp_path / "some" / "where" / "q", QuantizeError) as folder:
        assert folder.parent == tmp_path
        (folder / "file").write_text("content")
    assert list(tmp_path.iterdir()) == []


def test_a_file_holds_no_folder(tmp_path: Path) -> None:
    """Told before any work, not when its result is written."""
    (tmp_path / "file").write_text("content")
    output = tmp_path / "file" / "q"
    with (
        pytest.raises(ConfigError, match=r"No folder can be made .* is a file"),
        workplace(output, QuantizeError),
    ):
        pytest.fail("there is no such folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_where_the_kernel_makes_the_folders(tmp_path: Path) -> None:
    """One error, whoever may write there."""
    output = Path("/proc") / tmp_path.name
    with (
        pytest.raises(ConfigError, match=f"for the output {output}"),
        workplace(output, QuantizeError),
    ):
        pytest.fail("there is no such folder")
