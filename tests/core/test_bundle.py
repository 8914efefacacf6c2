"""Bundles are read only when whole and safe, and written only whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import edgekit.core.bundle
from edgekit.core.bundle import Bundle, BundleWriter, check_output, open_bundle
from edgekit.core.errors import (
    BundleCorrupt,
    BundleUnsafe,
    BundleVersion,
    ConfigError,
    ExportError,
)
from edgekit.core.hashing import sha256_bytes, sha256_file
from edgekit.core.manifest import Component, TensorSpec
from tests.core.conftest import make_manifest, write_bundle


def test_whole_bundle_opens(bundle: Bundle) -> None:
    """What was written is what is read, under the same id."""
    assert open_bundle(bundle.path).id == bundle.id


def test_id_does_not_depend_on_the_place(bundle: Bundle, tmp_path: Path) -> None:
    """Two writings of the same content have one identity."""
    assert write_bundle(tmp_path / "elsewhere").id == bundle.id


def test_flipped_byte(bundle: Bundle) -> None:
    """A changed byte of the same length is found by its hash."""
    (bundle.path / "model.bin").write_bytes(b"0123456780")
    with pytest.raises(BundleCorrupt, match="SHA-256"):
        open_bundle(bundle.path)


def test_quick_check_trusts_content(bundle: Bundle) -> None:
    """check="quick" compares sizes only, as it promises."""
    (bundle.path / "model.bin").write_bytes(b"0123456780")
    assert open_bundle(bundle.path, check="quick").id == bundle.id


def test_truncated_file(bundle: Bundle) -> None:
    """A file cut short is named with both sizes, also by the quick check."""
    (bundle.path / "model.bin").write_bytes(b"01234")
    with pytest.raises(BundleCorrupt, match=r"model.bin .* 5 bytes.* 10"):
        open_bundle(bundle.path, check="quick")


def test_missing_file(bundle: Bundle) -> None:
    """A listed file that is not there is named."""
    (bundle.path / "model.bin").unlink()
    with pytest.raises(BundleCorrupt, match=r"model.bin is missing"):
        open_bundle(bundle.path)


def test_extra_file(bundle: Bundle) -> None:
    """A file that the manifest does not list is refused, also in a sub-folder."""
    (bundle.path / "more").mkdir()
    (bundle.path / "more" / "code.py").write_text("boom")
    with pytest.raises(BundleCorrupt, match=r"more/code.py"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "LICENSE.txt", ".gitattributes"])
def test_tolerated_file(bundle: Bundle, name: str) -> None:
    """What hosting sites add is tolerated."""
    (bundle.path / name).write_text("x")
    open_bundle(bundle.path)


def test_symlink(bundle: Bundle, tmp_path: Path) -> None:
    """A link in the place of a file is refused even when its content fits."""
    outside = tmp_path / "outside.bin"
    (bundle.path / "model.bin").rename(outside)
    (bundle.path / "model.bin").symlink_to(outside)
    with pytest.raises(BundleUnsafe, match="symbolic link"):
        open_bundle(bundle.path)


def test_linked_folder(bundle: Bundle, tmp_path: Path) -> None:
    """A link to a folder is refused, not walked."""
    (bundle.path / "more").symlink_to(tmp_path)
    with pytest.raises(BundleUnsafe, match="symbolic link"):
        open_bundle(bundle.path)


def test_pipe(bundle: Bundle) -> None:
    """A named pipe would hang its reader: refused by its kind."""
    os.mkfifo(bundle.path / "README")
    with pytest.raises(BundleUnsafe, match="regular file"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("path", ["../model.bin", "/etc/passwd", "a/../../x", "c:/x", "a\\\\b"])
def test_path_leading_outside(
    bundle: Bundle, rewrite: Callable[[bytes, bytes], None], path: str
) -> None:
    """A path that could leave the bundle is refused before anything is opened."""
    rewrite(b'"model.bin"', f'"{path}"'.encode())
    with pytest.raises(BundleUnsafe):
        open_bundle(bundle.path)


def test_newer_version(bundle: Bundle, rewrite: Callable[[bytes, bytes], None]) -> None:
    """A newer major version is refused with both versions."""
    rewrite(b'"format_version": 1', b'"format_version": 2')
    with pytest.raises(BundleVersion, match=r"version 2.*up to 1"):
        open_bundle(bundle.path)


def test_huge_manifest(bundle: Bundle) -> None:
    """A manifest of 100 MB is refused by its size, unread."""
    with (bundle.path / "edgekit.json").open("r+b") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(BundleUnsafe, match="100000000"):
        open_bundle(bundle.path)


def test_missing_folder(tmp_path: Path) -> None:
    """A path with nothing there is a wrong path, not a corrupt bundle."""
    with pytest.raises(ConfigError, match="no bundle at"):
        open_bundle(tmp_path / "nothing")


def test_folder_without_manifest(tmp_path: Path) -> None:
    """A folder that is no bundle says so."""
    with pytest.raises(BundleCorrupt, match=r"no edgekit.json"):
        open_bundle(tmp_path)


def _with_external(output: Path, location: str, files: tuple[str, ...]) -> None:
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [2])],
        [value("y", onnx.TensorProto.FLOAT, [2])],
        [weight],
    )
    manifest = make_manifest()
    spec = TensorSpec("x", "float32", (2,))
    part = Component("onnx", files, (spec,), (TensorSpec("y", "float32", (2,)),))
    object.__setattr__(manifest, "components", {"model": part})
    with BundleWriter(output) as writer:
        model = onnx.helper.make_model(graph)
        writer.add("model.onnx", "component").write_bytes(model.SerializeToString())
        writer.add("model.data", "weights").write_bytes(b"12345678")
        writer.stage(manifest)
        writer.commit()


def test_external_data_inside(tmp_path: Path) -> None:
    """Weights beside the graph are read when the component lists them."""
    _with_external(tmp_path / "b", "model.data", ("model.onnx", "model.data"))
    open_bundle(tmp_path / "b")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "other.data"])
def test_external_data_outside(tmp_path: Path, location: str) -> None:
    """A graph that reads weights from elsewhere is refused before an engine sees it."""
    with pytest.raises(BundleUnsafe):
        _with_external(tmp_path / "b", location, ("model.onnx", "model.data"))
    assert list(tmp_path.iterdir()) == []


def test_existing_output(bundle: Bundle) -> None:
    """An existing bundle is not replaced unasked."""
    with pytest.raises(ConfigError, match="exists"):
        BundleWriter(bundle.path)


def test_force_replaces(bundle: Bundle, tmp_path: Path) -> None:
    """--force replaces the bundle and leaves nothing beside it."""
    write_bundle(bundle.path, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_force_spares_other_folders(tmp_path: Path) -> None:
    """--force never removes a folder that is not a bundle."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="other than a bundle"):
        BundleWriter(tmp_path / "photos", force=True)


def test_output_inside_a_bundle(bundle: Bundle) -> None:
    """Writing into the input would change it: refused."""
    with pytest.raises(ConfigError, match="inside the bundle"):
        BundleWriter(bundle.path / "compiled")


def test_manifest_that_would_be_too_large(tmp_path: Path) -> None:
    """No reader would take it: it is not written."""
    with (
        pytest.raises(ExportError, match="the manifest has") as caught,
        BundleWriter(tmp_path / "out") as writer,
    ):
        writer.add("model.bin", "component").write_bytes(b"0123456789")
        writer.stage(replace(make_manifest(), labels=("l" * (1 << 20),)))
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C between two files removes the temporary folder and the parents it made."""
    with pytest.raises(KeyboardInterrupt), BundleWriter(tmp_path / "a" / "b" / "out") as writer:
        writer.add("model.xml", "component").write_bytes(b"<net/>")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the bundle module hashes, as it goes."""
    names: list[str] = []

    def count(path: Path) -> str:
        names.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(edgekit.core.bundle, "sha256_file", count)
    return names


def test_staging_again_hashes_only_what_is_new(tmp_path: Path, hashed: list[str]) -> None:
    """Weights are read once, however often a step tries its bundle."""
    with BundleWriter(tmp_path / "out") as writer:
        writer.add("model.xml", "component").write_bytes(b"<net/>")
        writer.add("model.bin", "weights").write_bytes(b"0123456789")
        writer.stage(make_manifest())
        writer.stage(make_manifest())
        writer.add("golden.safetensors", "golden").write_bytes(b"x")
        writer.stage(make_manifest())
        writer.commit()
    assert hashed == ["model.bin", "model.xml", "golden.safetensors"]
    open_bundle(tmp_path / "out")


def _added(writer: BundleWriter, path: Path) -> None:
    """Name the file again, and make it look as if it had never been written again."""
    before = path.stat()
    writer.add("model.bin", "weights").write_bytes(b"9876543210")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _copied(writer: BundleWriter, path: Path) -> None:
    source = writer.output.with_name("source")
    source.write_bytes(b"9876543210")
    before = path.stat()
    writer.copy(source, "model.bin", "weights")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _longer(_: BundleWriter, path: Path) -> None:
    path.write_bytes(b"98765432100")


def _later(_: BundleWriter, path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"9876543210")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def _replaced(_: BundleWriter, path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"9876543210")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("change", [_added, _copied, _longer, _later, _replaced])
def test_a_changed_file_is_hashed_again(
    tmp_path: Path, change: Callable[[BundleWriter, Path], None]
) -> None:
    """Named again, or of another size, time or place on the disk: its old hash is forgotten."""
    with BundleWriter(tmp_path / "out") as writer:
        writer.add("model.xml", "component").write_bytes(b"<net/>")
        path = writer.add("model.bin", "weights")
        path.write_bytes(b"0123456789")
        writer.stage(make_manifest())
        change(writer, path)
        writer.stage(make_manifest())
        bundle = writer.commit()
    (entry,) = (item for item in bundle.manifest.files if item.path == "model.bin")
    assert entry.sha256 == sha256_bytes(bundle.file("model.bin").read_bytes())
    open_bundle(bundle.path)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is a step error that says so, and leaves nothing."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = tmp_path / "in.bin"
    source.write_bytes(b"x")
    monkeypatch.setattr("shutil.copyfile", full)
    with (
        pytest.raises(ExportError, match="disk is full"),
        BundleWriter(tmp_path / "out") as writer,
    ):
        writer.copy(source, "model.bin", "weights")
    assert [path.name for path in tmp_path.iterdir()] == ["in.bin"]


def test_interrupted_replacement_keeps_the_old_bundle(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the two renames of --force puts the replaced bundle back."""
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle.path, force=True)
    assert open_bundle(bundle.path).id == bundle.id
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_output_that_is_the_input(bundle: Bundle) -> None:
    """--force never replaces what the step reads."""
    with pytest.raises(ConfigError, match="is the input"):
        check_output(bundle.path, force=True, inputs=[bundle.path])


@pytest.mark.parametrize("name", ["file/out", "x" * 300, "new/folders/" + "x" * 300])
def test_impossible_output(tmp_path: Path, name: str) -> None:
    """A path that cannot be is a configuration error, and no parent is left."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError), BundleWriter(tmp_path / name):
        pytest.fail("the writer was opened")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["x", "x/y"])
def test_output_where_nothing_can_be_made(name: str) -> None:
    """A folder of the kernel's takes no other: said as a wrong path."""
    with (
        pytest.raises(ConfigError, match=f"for the output /proc/{name}"),
        BundleWriter(Path("/proc") / name),
    ):
        pytest.fail("a folder was made")


def test_current_folder_as_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-o .` would be a bundle without a name of its own."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="current folder"):
        BundleWriter(".")


def test_impossible_input() -> None:
    """A bundle path longer than the system allows is a wrong path."""
    with pytest.raises(ConfigError):
        open_bundle("x" * 300)
