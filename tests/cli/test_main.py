"""The command line's contract: exit codes, one JSON object, one clear error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.conftest import write_bundle


def edgekit(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


def test_help_lists_every_command() -> None:
    """The first screen names each command with its line."""
    from edgekit.cli.main import COMMANDS

    done = edgekit("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_every_command_has_help() -> None:
    """Each row of the table leads to a command."""
    from edgekit.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.name == name


def test_unknown_command_names_the_nearest() -> None:
    """A mistyped command is a usage error with a proposal."""
    done = edgekit("exprot")
    assert done.returncode == 2
    assert "Did you mean 'export'?" in done.stderr


def test_unknown_option() -> None:
    """A usage error has no traceback and points at the help."""
    done = edgekit("verify", "x", "--no-such")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--help" in done.stderr


def test_usage_error_as_json() -> None:
    """With --json also a usage error is one JSON object on stdout."""
    done = edgekit("verify", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2


@pytest.mark.parametrize("command", ["inspect", "verify", "run", "compile"])
def test_missing_bundle(tmp_path: Path, command: str) -> None:
    """A path with nothing there is exit 2, and nothing is written."""
    words = ["-o", tmp_path / "out"] if command == "compile" else []
    done = edgekit(command, tmp_path / "nothing", *words, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "ConfigError"
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_empty_path(command: str) -> None:
    """A variable that was not set is wrong usage, not a look at the current folder."""
    done = edgekit(command, "")
    assert done.returncode == 2
    assert "the path of the bundle is empty" in done.stderr


def test_model_folder_as_bundle(tmp_path: Path) -> None:
    """Who gives a model where a bundle is meant is told the step between them."""
    (tmp_path / "config.json").write_text("{}")
    done = edgekit("verify", tmp_path)
    assert done.returncode == 6
    assert f"{tmp_path} is not a bundle" in done.stderr
    assert f"edgekit export {tmp_path} -o BUNDLE" in done.stderr


def test_corrupt_bundle(tmp_path: Path) -> None:
    """A damaged bundle is exit 6."""
    bundle = write_bundle(tmp_path / "b")
    (bundle.path / "model.bin").write_bytes(b"0123456780")
    done = edgekit("inspect", bundle.path, "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["error"]["kind"] == "BundleCorrupt"


def test_inspect_tells_without_loading(tmp_path: Path) -> None:
    """inspect prints the manifest; no engine is needed for it."""
    bundle = write_bundle(tmp_path / "b")
    assert json.loads(edgekit("inspect", bundle.path, "--json").stdout)["bundle_id"] == bundle.id
    assert "x float32[batch, 4]" in edgekit("inspect", bundle.path).stdout


def test_targets_are_listed() -> None:
    """Every shipped profile is a row, and its own page shows its keys."""
    from edgekit.core.profiles import profile_names

    listed = json.loads(edgekit("targets", "--json").stdout)["targets"]
    assert [row["name"] for row in listed] == profile_names()
    assert "openvino" in edgekit("targets", "openvino-npu").stdout


def test_unknown_target_names_the_nearest(tmp_path: Path) -> None:
    """A mistyped target is a configuration error with a proposal."""
    done = edgekit("targets", "raspbery-pi-5")
    assert done.returncode == 2
    assert "raspberry-pi-5" in done.stderr


def test_doctor_tells_of_this_machine() -> None:
    """doctor exits 0 and names the engines that are installed."""
    facts = json.loads(edgekit("doctor", "--json").stdout)
    assert facts["threads"] >= 1
    assert "onnxruntime" in facts["engines"]


def test_config_file_gives_defaults(tmp_path: Path) -> None:
    """A TOML file sets options; an unknown one of the command's table is named."""
    (tmp_path / "c.toml").write_text("[verify]\nthread = 2\n")
    done = edgekit("verify", "x", "--config", tmp_path / "c.toml")
    assert done.returncode == 2
    assert "'threads'" in done.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[exprot]\nopset = 22\n", "'export'"),
        ("verify = 1\n", "should be a table"),
        ("[verify]\nthreads = [1, 2]\n", "takes one value"),
        ("[verify]\njson = true\n", "no option 'json'"),
        ("[verify", "not valid TOML"),
        ("thread = 2\n", "Did you mean 'threads'?"),
        ("no-such-key-anywhere = 2\n", "no command has an option 'no-such-key-anywhere'"),
        ("json = true\n", "no command has an option 'json'"),
        ("bundle = 'x'\n", "no command has an option 'bundle'"),
        ("[bench]\nbatches = 3\n", "bench has no option 'batches'"),
        ("[compile]\nset = { a = 1 }\n[verify]\nthreads = { a = 1 }\n", "takes one value"),
    ],
)
def test_wrong_config_file(tmp_path: Path, content: str, told: str) -> None:
    """What a configuration file cannot mean is named, without a traceback."""
    (tmp_path / "c.toml").write_text(content)
    done = edgekit("verify", "x", "--config", tmp_path / "c.toml")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert told in done.stderr


def test_key_of_another_command(tmp_path: Path) -> None:
    """One file serves all commands: what only another one knows is left to it."""
    (tmp_path / "c.toml").write_text("opset = 22\nmax_drop = '2%'\n[export]\nstatic = 'batch=1'\n")
    done = edgekit("verify", tmp_path / "nothing", "--config", tmp_path / "c.toml")
    assert "no bundle at" in done.stderr


def test_one_value_for_a_repeated_option(tmp_path: Path) -> None:
    """`length = 16` in a configuration file is one length also where several are allowed."""
    (tmp_path / "c.toml").write_text("length = 16\n")
    done = edgekit("bench", tmp_path / "nothing", "--config", tmp_path / "c.toml")
    assert "no bundle at" in done.stderr


@pytest.mark.parametrize("value", ["batch=²", "batch", "batch=0", "=3"])
def test_wrong_static_dimension(tmp_path: Path, value: str) -> None:
    """A size that is no number is a usage error."""
    done = edgekit("compile", tmp_path, "-o", tmp_path / "out", "--static", value)
    assert done.returncode == 2
    assert "DIM=N" in done.stderr
