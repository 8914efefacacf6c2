"""Where a pruned source is put: what was there is replaced, or stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.errors import ConfigError
from edgekit.pipeline.cuts import placing


def folders(root: Path) -> tuple[Path, Path]:
    """A new folder, and an old one in its place."""
    for name in ("staged", "p"):
        (root / name).mkdir()
        (root / name / "pruning.json").write_text(name)
    return root / "staged", root / "p"


def test_the_old_folder_is_replaced_where_it_is_forced(tmp_path: Path) -> None:
    """The new one is whole in its place, the old one in the working folder."""
    staged, output = folders(tmp_path)
    with pytest.raises(ConfigError, match="exists"):
        placing.move(staged, output, tmp_path / "old", force=False)
    placing.move(staged, output, tmp_path / "old", force=True)
    assert (output / "pruning.json").read_text() == "staged"


@pytest.mark.parametrize("stop", [OSError, KeyboardInterrupt])
def test_the_old_folder_goes_back_where_the_new_one_cannot_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    """A full disk or Ctrl-C between the two renames loses nothing."""
    staged, output = folders(tmp_path)

    def fail(*_: object) -> None:
        raise stop

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(stop):
        placing.move(staged, output, tmp_path / "old", force=True)
    assert (output / "pruning.json").read_text() == "p"
