"""What a SOURCE string leads to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgekit.core.errors import ConfigError, SourceError
from edgekit.sources import hub
from edgekit.sources.opening import declared_dimensions, open_reference, open_source
from tests.models import LinearRegression


@pytest.mark.parametrize(
    "spec", ["/no/such/folder", "./missing", "a/b/c", "missing/", "model.onnx", "program.pt2"]
)
def test_missing_path_is_a_config_error(spec: str) -> None:
    """What cannot be an id of the hub is a path, and there is nothing at it."""
    with pytest.raises(ConfigError, match="There is no"):
        open_source(spec)


def test_id_that_is_nowhere_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, and the hub not reached: the path is the likelier mistake."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="no folder 'edgekit-no-such-model' here"):
        open_source("edgekit-no-such-model")


def test_model_of_the_hub_is_opened_from_its_cache(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id and the commit are what the bundle records."""
    monkeypatch.setattr(hub, "fetch", lambda spec, revision, code: (checkpoint, "a" * 40))
    source = open_source("owner/model", revision="main")
    assert (source.id, source.revision) == ("owner/model", "a" * 40)


@pytest.mark.parametrize("name", ["model.onnx", "weights.pth", "own.py", "model.safetensors"])
def test_file_that_is_no_source_gets_a_hint(name: str, tmp_path: Path) -> None:
    """Each kind of file people try says what to give instead."""
    path = tmp_path / name
    path.write_bytes(b"x")
    with pytest.raises(ConfigError, match="is no source by itself") as caught:
        open_source(str(path))
    assert caught.value.hint


def test_inputs_are_not_for_checkpoints(checkpoint: Path) -> None:
    """The tokenizer decides there."""
    with pytest.raises(ConfigError, match="--input is for module factories"):
        open_source(str(checkpoint), inputs=["x=float32:batch"])


def test_program_needs_trust(tmp_path: Path) -> None:
    """A .pt2 file is read with pickle: not without being asked."""
    path = tmp_path / "m.pt2"
    path.write_bytes(b"anything")
    with pytest.raises(SourceError, match="can run any code") as caught:
        open_source(str(path))
    assert "--trust-remote-code" in str(caught.value.hint)
    with pytest.raises(SourceError, match="could not read"):
        open_source(str(path), trust_remote_code=True)


def test_program_keeps_weights_names_and_dimensions(tmp_path: Path) -> None:
    """The hash is that of the module it was made from, and its own symbol is the batch."""
    torch.manual_seed(0)
    module = LinearRegression().eval()
    program = torch.export.export(
        module, (torch.zeros(2, 10),), dynamic_shapes={"x": {0: torch.export.Dim("n")}}
    )
    torch.export.save(program, tmp_path / "m.pt2")
    source = open_source(str(tmp_path / "m.pt2"), trust_remote_code=True)
    same = open_source("tests.models:linear_regression", inputs=["x=float32:batch,10"])
    assert source.sha256 == same.sha256
    assert source.dynamic_axes == {"x": {0: "batch"}}
    x = torch.rand(5, 10)
    torch.testing.assert_close(source.module(x=x)["output"], module(x))


GUARD = """
import sys
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        seen.append((event, str(arguments)[:200]))
sys.addaudithook(hook)
from edgekit.sources.opening import declared_dimensions, open_reference, open_source
open_source(sys.argv[1])
print(seen)
"""


@pytest.mark.slow
def test_local_folder_is_opened_without_network_and_traces(
    checkpoint: Path, tmp_path: Path
) -> None:
    """No connection, no child process, nothing printed, nothing under an empty HOME."""
    home = tmp_path / "home"
    home.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", GUARD, str(checkpoint)],
        env={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"
    assert ran.stderr == ""
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "inputs", "known"),
    [
        ("owner/model", (), ("batch", "sequence", "height", "width")),
        ("net.py:make", ("x=float32:batch,4", "y=int64:batch,length"), ("batch", "length")),
        ("net.py:make", (), None),
        ("program.pt2", (), None),
    ],
)
def test_dimensions_known_before_a_source_is_opened(
    spec: str, inputs: tuple[str, ...], known: tuple[str, ...] | None
) -> None:
    """Those of a checkpoint and the declared ones; a factory's samples have to be seen first."""
    assert declared_dimensions(spec, inputs) == known


def test_a_reference_of_another_task_is_told_without_the_option(checkpoint: Path) -> None:
    """The commands that take one have no --task: the remedy is the bundle's own original."""
    with pytest.raises(SourceError) as caught:
        open_source(str(checkpoint), task="question-answering")
    assert "--task" in str(caught.value.hint)
    with pytest.raises(SourceError) as caught:
        open_reference(str(checkpoint), task="question-answering")
    hint = "Pass the original that the bundle was made from, which is for question-answering."
    assert caught.value.hint == hint
