"""A bundle opens where its requirements are met, and says what is missing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.core import cpu
from edgekit.core.bundle import Bundle
from edgekit.core.errors import (
    BundleVersion,
    ConfigError,
    EngineUnavailable,
    MissingDependency,
)
from edgekit.core.manifest import Requires
from edgekit.runtime import load
from edgekit.runtime.engines import engine_devices, engine_names, find_engine

Make = Callable[..., Bundle]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package look as if it were not installed."""

    def make(name: str) -> None:
        for module in [key for key in sys.modules if key.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, name, None)

    return make


def test_no_such_folder(tmp_path: Path) -> None:
    """A path without a bundle is a ConfigError."""
    with pytest.raises(ConfigError, match="no bundle"):
        load(tmp_path / "nothing")


def test_missing_cpu_feature(linear_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature that this CPU lacks is named before the engine sees the graph."""
    monkeypatch.setattr(cpu, "cpu_features", lambda: frozenset({"avx2"}))
    bundle = linear_bundle(requires=Requires("onnxruntime", cpu_features=("avx2", "amx_int8")))
    with pytest.raises(EngineUnavailable, match="CPU features amx_int8,") as caught:
        load(bundle.path)
    assert caught.value.exit_code == 7


def test_unknown_cpu(linear_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell its features, the engine decides."""
    monkeypatch.setattr(cpu, "cpu_features", lambda: None)
    load(linear_bundle(requires=Requires("onnxruntime", cpu_features=("avx2",))).path).close()


def test_other_architecture(linear_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle laid out for another architecture is refused with both names."""
    monkeypatch.setattr(cpu, "arch", lambda: "riscv64")
    with pytest.raises(EngineUnavailable, match=r"arm64.*riscv64"):
        load(linear_bundle(requires=Requires("onnxruntime", arch="arm64")).path)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [("1.2", True), ("1.10.1", True), ("999", False), ("1.999.0rc1", False)],
)
def test_engine_version(linear_bundle: Make, wanted: str, fits: bool) -> None:
    """Versions compare by number; too old an engine is told with the line that upgrades it."""
    bundle = linear_bundle(requires=Requires("onnxruntime", engine_min_version=wanted))
    if fits:
        load(bundle.path).close()
    else:
        with pytest.raises(EngineUnavailable, match=wanted) as caught:
            load(bundle.path)
        assert "pip install --upgrade onnxruntime" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("package", "extra", "engine"),
    [("onnxruntime", "ort", None), ("openvino", "openvino", "openvino")],
)
def test_engine_not_installed(
    linear_bundle: Make, hide: Callable[[str], None], package: str, extra: str, engine: str | None
) -> None:
    """A missing engine is MissingDependency with its pip line."""
    bundle = linear_bundle()
    hide(package)
    with pytest.raises(MissingDependency) as caught:
        load(bundle.path, engine=engine)
    assert caught.value.exit_code == 3
    assert f"[{extra}]" in str(caught.value.hint)


@pytest.mark.parametrize("extras", [(), ("text",)])
def test_tokenizers_not_installed(
    text_bundle: Make, hide: Callable[[str], None], extras: tuple[str, ...]
) -> None:
    """A text bundle without tokenizers is MissingDependency, declared or not."""
    bundle = text_bundle("embedding", requires=Requires("onnxruntime", extras=extras))
    hide("tokenizers")
    with pytest.raises(MissingDependency, match="tokenizers") as caught:
        load(bundle.path)
    assert "[text]" in str(caught.value.hint)


def test_extra_of_a_later_version(linear_bundle: Make) -> None:
    """A requirement that is not understood is not skipped."""
    bundle = linear_bundle(requires=Requires("onnxruntime", extras=("smell",)))
    with pytest.raises(BundleVersion, match="smell"):
        load(bundle.path)


def test_unknown_engine(linear_bundle: Make) -> None:
    """An engine that nobody registered is told with the known ones."""
    with pytest.raises(EngineUnavailable, match=r"'tensorrt'.*onnxruntime, openvino"):
        load(linear_bundle().path, engine="tensorrt")


def test_other_engine_ignores_the_recorded_options(linear_bundle: Make) -> None:
    """Options were chosen for one engine; another one takes its own defaults."""
    bundle = linear_bundle(options={"device": "cpu", "threads": 1, "allow_spinning": False})
    with load(bundle.path, engine="openvino") as model:
        assert model.engine == "openvino"


@pytest.mark.parametrize("threads", [0, -1, True])
def test_threads_out_of_range(linear_bundle: Make, threads: int) -> None:
    """A number of threads that is none is a ConfigError."""
    with pytest.raises(ConfigError, match="threads"):
        load(linear_bundle().path, threads=threads)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_threads(linear_bundle: Make, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """The caller's number counts, then the bundle's within what is available, then all of it."""
    monkeypatch.setattr(cpu, "available_threads", lambda: 2)
    options = {"threads": 7}
    requires = Requires(engine)
    recorded = linear_bundle("recorded", options=options, requires=requires).path
    for path, given, expected in (
        (recorded, None, 2),
        (recorded, 1, 1),
        (linear_bundle("plain", requires=requires).path, None, 2),
    ):
        with load(path, threads=given) as model:
            assert model.facts()["threads"] == expected


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_device_of_another_kind(linear_bundle: Make, engine: str) -> None:
    """A device that an engine does not have is told with those it has."""
    with pytest.raises(EngineUnavailable, match="tpu") as caught:
        load(linear_bundle().path, engine=engine, device="tpu")
    assert "cpu" in str(caught.value.hint)


class _Elsewhere(ModuleType):
    """A third party's engine module."""

    FORMATS = ("onnx",)
    DEVICES = ("cpu",)

    @staticmethod
    def devices() -> list[str]:
        return ["cpu"]


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that registers the engines ``elsewhere`` and ``broken``."""
    info = tmp_path / "site" / "elsewhere-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[edgekit.engines]\nelsewhere = elsewhere_engine\nbroken = not_there_engine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(sys.modules, "elsewhere_engine", _Elsewhere("elsewhere_engine"))


@pytest.mark.usefixtures("third_party")
def test_engine_of_a_third_party() -> None:
    """An entry point of the group edgekit.engines is an engine like ours."""
    assert {"elsewhere", "onnxruntime", "openvino"} <= set(engine_names())
    assert find_engine("elsewhere").FORMATS == ("onnx",)
    assert engine_devices("elsewhere") == ["cpu"]
    with pytest.raises(EngineUnavailable, match=r"'broken' \(not_there_engine\) does not import"):
        find_engine("broken")


def test_another_engine_computes_exactly(linear_bundle: Make) -> None:
    """A bundle that says nothing of an engine's precision is not computed in a coarser one."""
    with load(linear_bundle().path, engine="openvino") as model:
        assert model.facts()["precision"] == "fp32"


def test_compiled_bundle_keeps_its_engine(linear_bundle: Make) -> None:
    """What one engine's compiler fused is not given to another, which may answer differently."""
    with pytest.raises(EngineUnavailable, match="was compiled for onnxruntime"):
        load(linear_bundle(stage="compiled").path, engine="openvino")
