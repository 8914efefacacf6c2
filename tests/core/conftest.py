"""A small whole bundle to read, and to damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.core.bundle import Bundle, BundleWriter
from edgekit.core.manifest import Component, Manifest, Requires, TensorSpec


def make_manifest(files: tuple[str, ...] = ("model.xml", "model.bin")) -> Manifest:
    """A manifest of one component that no engine needs to open."""
    return Manifest(
        name="tiny",
        created_by="edgekit test",
        stage="exported",
        task="custom",
        source=None,
        components={
            "model": Component(
                "openvino-ir",
                files,
                (TensorSpec("x", "float32", ("batch", 4)),),
                (TensorSpec("y", "float32", ("batch",)),),
            )
        },
        requires=Requires(engine="openvino"),
    )


def write_bundle(output: Path, *, force: bool = False) -> Bundle:
    """Write the bundle of `make_manifest`."""
    with BundleWriter(output, force=force) as writer:
        writer.add("model.xml", "component").write_bytes(b"<net/>")
        writer.add("model.bin", "weights").write_bytes(b"0123456789")
        writer.stage(make_manifest())
        return writer.commit()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A small whole bundle."""
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def rewrite(bundle: Bundle) -> Callable[[bytes, bytes], None]:
    """Replace bytes of the manifest without minding its hashes."""

    def change(old: bytes, new: bytes) -> None:
        path = bundle.path / "edgekit.json"
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return change
