"""The zoo's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.zoo import store
from benchmarks.zoo.__main__ import main
from benchmarks.zoo.table import TABLE


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "_checked", {})


def test_list_names_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row is listed with its state, and nothing is fetched or written for it."""
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TABLE)
    assert "cached" not in printed
    assert not list(tmp_path.iterdir())


def test_path_of_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """`path` fetches nothing: it fails and says what to type."""
    assert main(["path", "minilm"]) == 1
    assert "python -m benchmarks.zoo fetch minilm" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["path", "fetch"])
def test_unknown_names_fail(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not in the table is answered before anything is fetched."""
    assert main([command, "digit"]) == 1
    assert "did you mean 'digits'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("system", "machine", "there"),
    [("Linux", "x86_64", True), ("Linux", "aarch64", False), ("Darwin", "x86_64", False)],
)
def test_what_runs_elsewhere_is_fetched_by_name_alone(
    system: str,
    machine: str,
    there: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seventy megabytes of a browser for another machine are of no use."""
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("benchmarks.zoo.__main__.fetch", lambda name: name)
    assert main(["fetch"]) == 0
    told = capsys.readouterr()
    fetched = set(told.out.split())
    assert fetched == set(TABLE) - (set() if there else {"chromium", "speech"})
    assert ("chromium is left out" in told.err) is not there
    assert main(["fetch", "chromium"]) == 0
    assert capsys.readouterr().out == "chromium\n"


def test_wrong_usage_is_two() -> None:
    """A missing command is argparse's exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
