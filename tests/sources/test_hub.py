"""Models of the hub, with the hub played by the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.core.errors import ConfigError, SourceError
from edgekit.sources import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Download = Callable[..., str]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that the played model lists."""
    listed: list[str] = ["config.json", "model.safetensors"]
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info",
        lambda self, spec, **options: SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=name) for name in listed]
        ),
    )
    return listed


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What was asked of the download, which lands in a folder named after its commit."""
    seen: dict[str, Any] = {}

    def download(spec: str, **options: object) -> str:
        seen.update(options, spec=spec)
        return str(tmp_path / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return seen


def _raise(error: Exception) -> Callable[..., object]:
    def call(*arguments: object, **options: object) -> object:
        raise error

    return call


@pytest.mark.parametrize("spec", ["bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"])
def test_ids_are_recognised(spec: str) -> None:
    """A name, or an owner and a name."""
    assert hub.is_hub_id(spec)


@pytest.mark.parametrize("spec", ["/tmp/x", "./x", "a/b/c", "../x", "x/", "", "a--b", "~/x"])
def test_paths_are_no_ids(spec: str) -> None:
    """They are never sent anywhere."""
    assert not hub.is_hub_id(spec)


def test_commit_is_recorded_and_only_what_is_needed_fetched(
    files: list[str], asked: dict[str, Any]
) -> None:
    """safetensors instead of pickles, and no code unless it is trusted."""
    files.append("pytorch_model.bin")
    folder, commit = hub.fetch("owner/model", "main", code=False)
    assert (folder.name, commit) == (COMMIT, COMMIT)
    assert "*.safetensors" in asked["allow_patterns"]
    assert "*.bin" not in asked["allow_patterns"]
    assert "*.py" not in asked["allow_patterns"]


def test_pickles_are_fetched_where_there_is_nothing_else(
    files: list[str], asked: dict[str, Any]
) -> None:
    """They are read as weights only."""
    files[:] = ["config.json", "pytorch_model.bin"]
    hub.fetch("owner/model", None, code=True)
    assert "*.bin" in asked["allow_patterns"]
    assert "*.py" in asked["allow_patterns"]


def test_cache_serves_without_network(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run downloaded is enough."""
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", _raise(OSError("no route")))
    folder, _ = hub.fetch("owner/model", None, code=False)
    assert folder.name == COMMIT
    assert asked["local_files_only"] is True


def test_nothing_anywhere_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder, nor in the cache, nor a network."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", _raise(OSError("no route")))
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", _raise(LocalEntryNotFoundError("not cached"))
    )
    with pytest.raises(ConfigError, match="no folder 'model' here, and the Hugging Face hub was"):
        hub.fetch("model", None, code=False)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("RepositoryNotFoundError", ConfigError, "neither a folder 'm' here nor a model"),
        ("RevisionNotFoundError", ConfigError, "no revision 'v9'"),
        ("GatedRepoError", SourceError, "is gated"),
    ],
)
def test_refusals_of_the_hub_are_told(
    name: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own remedy."""
    import huggingface_hub.errors as errors

    kind = getattr(errors, name)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", _raise(kind.__new__(kind)))
    with pytest.raises(error, match=message):
        hub.fetch("m", "v9", code=False)
