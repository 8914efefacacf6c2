"""Bad input by hand, as a person would type it: one clear error, its exit code, nothing left."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.core.lazy import install_line
from tests.models import save_model

pytestmark = pytest.mark.slow

# Kilobytes → (a folder on a disk of that size, what a child calls before it starts).
SmallDisk = Callable[[int], tuple[Path, Callable[[], None]]]


def run(
    *words: object, before: Callable[[], None] | None = None, cwd: Path | None = None
) -> tuple[int, dict[str, str]]:
    """(exit code, the error) of a command that must fail cleanly."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, words), "--json"],
        capture_output=True, text=True, preexec_fn=before, cwd=cwd,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["error"]


def export(source: object, folder: Path, *words: object, **options: object) -> dict[str, str]:
    """The error of an export that must leave nothing behind."""
    output = folder / "out"
    code, error = run("export", source, "-o", output, *words, **options)  # type: ignore[arg-type]
    assert code == error["exit_code"]
    assert not output.exists()
    assert list(folder.glob(".out*")) == []
    return error


def test_missing_folder(tmp_path: Path) -> None:
    """A path with nothing there is a wrong path."""
    assert export(tmp_path / "nothing", tmp_path)["exit_code"] == 2


def test_folder_without_config(tmp_path: Path) -> None:
    """A folder that is no model says what is missing."""
    (tmp_path / "empty").mkdir()
    error = export(tmp_path / "empty", tmp_path)
    assert error["exit_code"] == 4
    assert "config.json" in error["message"]


def test_corrupt_weights(tmp_path: Path) -> None:
    """A truncated checkpoint is a source error that names the file."""
    source = save_model("bert", "text-classification", tmp_path / "m")
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    error = export(source, tmp_path)
    assert error["kind"] == "SourceError"
    assert "model.safetensors" in error["message"]


def test_base_checkpoint_as_classifier(tmp_path: Path) -> None:
    """A checkpoint without a head would be exported with a random one: refused."""
    source = save_model("bert", "feature-extraction", tmp_path / "m")
    error = export(source, tmp_path, "--task", "text-classification")
    assert error["kind"] == "SourceError"
    assert "classifier" in error["message"]


def test_unknown_task(tmp_path: Path, classifier_source: Path) -> None:
    """A mistyped task is a configuration error with a proposal."""
    error = export(classifier_source, tmp_path, "--task", "text-clasification")
    assert error["exit_code"] == 2
    assert "text-classification" in error["hint"]


def test_wrong_input_syntax(tmp_path: Path) -> None:
    """An --input that cannot be read shows the form."""
    error = export("tests.models:cnn", tmp_path, "--input", "image:float32")
    assert error["exit_code"] == 2
    assert "NAME=DTYPE" in f"{error['message']} {error['hint']}"


def test_output_exists(classifier: Path, classifier_source: Path) -> None:
    """An existing bundle is not replaced unasked, and not touched."""
    before = (classifier / "edgekit.json").read_bytes()
    code, error = run("export", classifier_source, "-o", classifier)
    assert (code, error["kind"]) == (2, "ConfigError")
    assert (classifier / "edgekit.json").read_bytes() == before


def test_forbidden_output(tmp_path: Path, classifier_source: Path) -> None:
    """A place that cannot be written to is named."""
    # The superuser may write anywhere but into the kernel's own file systems.
    forbidden = Path("/sys") if os.geteuid() == 0 else tmp_path / "locked"
    forbidden.mkdir(exist_ok=True)
    if os.geteuid():
        forbidden.chmod(0o500)
    code, error = run("export", classifier_source, "-o", forbidden / "out")
    assert code == 2
    assert "permission" in error["message"].lower()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Makes a folder on a disk of some kilobytes, and what a child calls before it starts."""
    small = tmp_path / "small"
    mounted = False

    def make(kilobytes: int) -> tuple[Path, Callable[[], None]]:
        nonlocal mounted
        small.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", small]
        mounted = subprocess.run(words, capture_output=True).returncode == 0

        def limit() -> None:
            # Without the right to mount: a limit on the size of a file fails the same writes.
            if not mounted:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, kilobytes * 1000))

        return small, limit

    yield make
    if mounted:
        subprocess.run(["umount", small], check=True)


def test_full_disk(classifier_source: Path, small_disk: SmallDisk) -> None:
    """A disk that fills up during the export is said, and everything is removed."""
    small, limit = small_disk(96)
    error = export(classifier_source, small, before=limit)
    assert error["kind"] == "ExportError"
    assert "disk is full" in error["message"]


@pytest.mark.parametrize(
    ("engine", "kilobytes"),
    [
        ("onnxruntime", 16),
        ("onnxruntime", 96),
        ("openvino", 16),
        ("openvino", 96),
        ("openvino", 480),
    ],
)
def test_full_disk_while_quantizing(
    classifier: Path, small_disk: SmallDisk, engine: str, kilobytes: int
) -> None:
    """Working files, candidates or the bundle itself: wherever it ends, that is told."""
    small, limit = small_disk(kilobytes)
    words = ["quantize", classifier, "-o", small / "out", "--engine", engine, "--allow-slower"]
    code, error = run(*words, before=limit)
    assert (code, error["kind"]) == (4, "QuantizeError")
    assert "disk is full" in error["message"]
    assert list(small.iterdir()) == []


@pytest.mark.parametrize("target", ["cpu-x86", "openvino-cpu"])
def test_full_disk_while_compiling(classifier: Path, small_disk: SmallDisk, target: str) -> None:
    """The engines write their files themselves; a disk too small for them is said all the same."""
    small, limit = small_disk(96)
    words = ["compile", classifier, "-o", small / "out", "--target", target]
    code, error = run(*words, before=limit)
    assert (code, error["kind"]) == (4, "CompileError")
    assert "disk is full" in error["message"]
    assert list(small.iterdir()) == []


def test_disk_that_fills_up_at_the_last_file(
    classifier: Path, tmp_path: Path, small_disk: SmallDisk
) -> None:
    """The graph fits and what belongs to it does not: nothing is left either."""
    whole = tmp_path / "whole"
    compiled = ["compile", classifier, "--target", "cpu-x86", "--threads", "1"]
    subprocess.run(
        [sys.executable, "-m", "edgekit", *map(str, compiled), "-o", whole, "-q"],
        check=True, capture_output=True,
    )  # fmt: skip
    pages = -(-(whole / "model.onnx").stat().st_size // 4096)
    small, limit = small_disk(4 * (pages + 1))
    if not os.path.ismount(small):
        pytest.skip("a limit on the size of a file cannot play a disk that is full in the end")
    code, error = run(*compiled, "-o", small / "out", before=limit)
    assert (code, error["kind"]) == (4, "CompileError")
    assert "disk is full" in error["message"]
    assert list(small.iterdir()) == []


@pytest.fixture
def no_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children find no OpenVINO, as where it is not installed."""
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text("import sys\nsys.modules['openvino'] = None\n")
    # The first sitecustomize is the only one: this folder comes before everything.
    paths = [str(hide), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.mark.usefixtures("no_openvino")
@pytest.mark.parametrize(
    "words",
    [
        ["compile", "BUNDLE", "-o", "OUTPUT", "--target", "openvino-cpu"],
        ["compile", "BUNDLE", "-o", "OUTPUT", "--target", "host", "--engine", "openvino"],
        ["run", "BUNDLE", "a text", "--engine", "openvino"],
        ["verify", "BUNDLE", "--engine", "openvino"],
    ],
    ids=["compile", "compile for host", "run", "verify"],
)
def test_engine_that_is_not_installed(tmp_path: Path, classifier: Path, words: list[str]) -> None:
    """Exit 3 with the line that installs it, and nothing is written."""
    output = tmp_path / "made" / "out"
    names = {"BUNDLE": classifier, "OUTPUT": output}
    code, error = run(*(names.get(word, word) for word in words))
    assert (code, error["kind"]) == (3, "MissingDependency")
    assert "openvino is not installed" in error["message"]
    assert error["hint"] == f"Run: {install_line('openvino')}"
    assert not output.parent.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["export", "compile"])
def test_signal_in_the_middle(
    tmp_path: Path, classifier: Path, classifier_source: Path,
    command: str, number: signal.Signals, code: int,
) -> None:  # fmt: skip
    """Ctrl-C and SIGTERM end a command with their exit code and leave nothing."""
    words = {
        "export": ["export", classifier_source, "-o", tmp_path / "out"],
        "compile": ["compile", classifier, "-o", tmp_path / "out", "--target", "openvino-cpu"],
    }[command]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(("Exporting", "Compiling")):
            break
    time.sleep(0.5)
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(60) == code, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
