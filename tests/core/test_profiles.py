"""core/profiles.py and targets/: the shipped profiles, and the strict reader."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgekit.core import cpu, profiles
from edgekit.core.cpu import VNNI
from edgekit.core.errors import ConfigError
from edgekit.core.profiles import Profile, load_profile, profile_names, profiles_folder
from edgekit.core.tolerance import Tolerance

SHIPPED = (
    "cpu-arm64", "cpu-x86", "cpu-x86-amx", "cpu-x86-vnni", "cuda", "host", "jetson-orin",
    "openvino-cpu", "openvino-gpu", "openvino-npu", "raspberry-pi-5",
)  # fmt: skip
MINIMAL = 'name = "mine"\nengines = ["onnxruntime"]\ndevice = "cpu"\n'


def load(folder: Path, text: str, *overrides: str) -> Profile:
    """The profile of some TOML."""
    path = folder / "mine.toml"
    path.write_text(text)
    return load_profile(str(path), overrides=overrides)


def test_all_targets_are_shipped() -> None:
    """The profiles that the documentation lists are there, and no other."""
    assert tuple(profile_names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_profile_is_complete(name: str) -> None:
    """Each says what it runs on, how well, for which workload and within which limits."""
    profile = load_profile(name)
    assert profile.name == name
    assert profile.engines
    assert any(precision in ("fp32", "bf16", "fp16") for precision in profile.precisions)
    assert set(profile.workload) == {"batch", "length"}
    assert set(profile.limits) == {"size_mb", "rss_mb", "latency_ms"}
    assert set(profile.options) <= {"onnxruntime", "openvino"}
    assert profile.arch or profile.device == "cuda"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_profile_says_where_its_facts_are_from(name: str) -> None:
    """The file begins with a comment on the hardware, and says what its status rests on."""
    text = (profiles_folder() / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    head = text.split("\nname =")[0].split("\nextends =")[0]
    status = load_profile(name).status
    assert status == "measured" or f"# {status}:" in head


@pytest.mark.parametrize("name", SHIPPED)
def test_status_is_the_files_own(name: str) -> None:
    """A status is never inherited: what was measured on one target was not on another."""
    values = tomllib.loads((profiles_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    assert "status" in values


def test_accelerators_that_are_not_here_are_not_claimed() -> None:
    """Only x86 CPUs were ever at hand."""
    for name in SHIPPED:
        profile = load_profile(name)
        if profile.device != "cpu" or profile.arch == "arm64":
            assert profile.status == "built"


def test_features_grow_along_the_x86_line() -> None:
    """VNNI adds to the baseline, AMX to VNNI."""
    plain, vnni, amx = (
        set(load_profile(name).features) for name in ("cpu-x86", "cpu-x86-vnni", "cpu-x86-amx")
    )
    assert plain < vnni < amx


def test_host_is_this_machine() -> None:
    """The host's architecture and features are read from the machine."""
    host = load_profile("host")
    assert host.arch == cpu.arch()
    assert set(host.features) == (cpu.cpu_features() or set())
    assert host.runs_here()


def test_host_has_the_installed_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is not installed is not among the host's."""
    monkeypatch.setattr(profiles, "_installed", lambda engine: engine == "openvino")
    assert load_profile("host").engines == ("openvino",)


def test_other_machines_do_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile runs where its architecture and all of its features are."""
    monkeypatch.setattr(cpu, "arch", lambda: "x86_64")
    monkeypatch.setattr(cpu, "cpu_features", lambda: frozenset({"avx2", "fma", "f16c"}))
    assert load_profile("cpu-x86").runs_here()
    assert not load_profile("cpu-x86-vnni").runs_here()
    assert not load_profile("raspberry-pi-5").runs_here()


def test_unknown_features_pass_where_they_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/cpuinfo only the architecture counts."""
    monkeypatch.setattr(cpu, "arch", lambda: "arm64")
    monkeypatch.setattr(cpu, "cpu_features", lambda: None)
    assert load_profile("raspberry-pi-5").runs_here()


def test_child_replaces_values_and_merges_tables() -> None:
    """A profile that extends another keeps the options it does not name."""
    jetson = load_profile("jetson-orin")
    options = jetson.options["onnxruntime"]["provider_options"]
    assert options["use_tf32"] == "0"
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert jetson.tolerance["fp32"] == Tolerance("max_abs", relative=1e-3, absolute=1e-4)
    assert jetson.precisions[0] == "fp16"


def test_own_profile_extends_a_shipped_one(tmp_path: Path) -> None:
    """A file of one's own can start from a shipped profile."""
    profile = load(tmp_path, 'extends = "raspberry-pi-5"\nname = "mine"\nthreads = 2\n')
    assert (profile.name, profile.threads, profile.arch) == ("mine", 2, "arm64")


def test_status_is_not_inherited(tmp_path: Path) -> None:
    """A target of one's own is as good as nobody has measured it yet."""
    profile = load(tmp_path, 'extends = "cpu-x86-vnni"\nname = "mine"\n')
    assert profile.status == "built"


def test_parent_file_lies_beside_its_child(tmp_path: Path) -> None:
    """A relative path in extends starts at the file that names it."""
    (tmp_path / "parent.toml").write_text(MINIMAL + "threads = 3\n")
    assert load(tmp_path, 'extends = "parent.toml"\nname = "mine"\n').threads == 3


def test_shortest_profile(tmp_path: Path) -> None:
    """Name, engines and device are enough."""
    profile = load(tmp_path, MINIMAL)
    assert profile.engine == "onnxruntime"
    assert (profile.threads, profile.precisions, profile.status) == (0, ("fp32",), "built")
    assert profile.to_json()["name"] == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('treads = 2\n', "no key 'treads'.*'threads'"),
        ("[limits]\nlatency = 5\n", "no key 'latency'.*'latency_ms'"),
        ("[workload]\nbatches = 5\n", "no key 'batches'.*'batch'"),
        ("[options.openvino]\nstream = 1\n", "no key 'stream'.*'streams'"),
        ('precisions = ["fp31"]\n', "unknown precision 'fp31'.*'fp32'"),
        ('features = ["avx512_vnn"]\n', "unknown CPU feature.*'avx512_vnni'"),
        ('status = "measurd"\n', "status is 'measurd'.*'measured'"),
        ("threads = -1\n", "threads should be a whole number"),
        ("threads = true\n", "threads should be a whole number"),
        ('max_opset = "22"\n', "max_opset should be a whole number"),
        ("[limits]\nsize_mb = 0\n", "limits.size_mb should be above 0"),
        ('engine_min_version = 1.2\n', "engine_min_version should be a text"),
        ("[tolerance]\nfp31 = { kind = \"cosine\" }\n", "tolerance.fp31"),
        ("[tolerance.fp32]\nkind = \"cosin\"\n", "max_abs or cosine"),
        ("options = 3\n", "options should be a table"),
        ("[options]\nonnxruntime = 3\n", "options.onnxruntime should be a table"),
        ("static = { batch = \"1\" }\n", "batch should be a whole number"),
        ("not toml", "not valid TOML"),
    ],
)  # fmt: skip
def test_wrong_profiles_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """A key or value that is not one is a ConfigError that names it and the nearest."""
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, MINIMAL + text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('engines = ["onnxruntime"]\ndevice = "cpu"\n', "name should be a text"),
        ('name = "mine"\nengines = []\ndevice = "cpu"\n', "at least one engine"),
        ('name = "mine"\nengines = "onnxruntime"\ndevice = "cpu"\n', "list of texts"),
        ('name = "mine"\nengines = ["onnxruntime"]\ndevice = "cpuu"\n', "'cpu'"),
        ('extends = 3\n', "extends is the name"),
        ('extends = "cpu-x68"\n', "no target profile 'cpu-x68'"),
    ],
)  # fmt: skip
def test_profiles_without_their_basics_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """Name, engines and device must be there and make sense."""
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_profile_that_extends_itself_is_refused(tmp_path: Path) -> None:
    """A circle ends in a ConfigError."""
    path = tmp_path / "mine.toml"
    with pytest.raises(ConfigError, match="extends itself"):
        load(tmp_path, f'extends = "{path}"\n' + MINIMAL)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cpu-x68", "'cpu-x86'"),
        ("openvino", "'openvino-cpu'"),
        ("cpu", "'cpu-x86'"),
        ("../cpu-x86", "no target profile"),
        ("none.toml", "none.toml"),
    ],
)
def test_unknown_target_names_the_nearest(name: str, message: str) -> None:
    """A mistyped target is a ConfigError that names the nearest one; a path needs .toml."""
    with pytest.raises(ConfigError, match=message):
        load_profile(name)


def test_overrides_reach_into_tables() -> None:
    """--set takes dotted keys; values are TOML, and a bare word is a text."""
    profile = load_profile(
        "cpu-x86",
        overrides=[
            "threads=2",
            "limits.latency_ms=50",
            "options.onnxruntime.offline_optimization=basic",
            "options.openvino.streams=2",
            'precisions=["fp32"]',
        ],
    )
    assert (profile.threads, profile.limits["latency_ms"]) == (2, 50)
    assert profile.options["onnxruntime"]["offline_optimization"] == "basic"
    assert profile.options["openvino"] == {"performance_hint": "latency", "streams": 2}
    assert profile.precisions == ("fp32",)
    assert load_profile("cpu-x86").threads == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("threads", "key=value"),
        ("=2", "key=value"),
        ("treads=2", "'threads'"),
        ("threads.more=2", "'threads' is a value"),
        ("limits.latency=2", "'latency_ms'"),
    ],
)
def test_wrong_overrides_are_refused(override: str, message: str) -> None:
    """An override is as strict as the file."""
    with pytest.raises(ConfigError, match=message):
        load_profile("cpu-x86", overrides=[override])


def test_profiles_of_the_wheel_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a wheel the profiles lie inside the package; in a checkout beside it."""
    assert profiles_folder().name in ("targets", "_targets")
    package = tmp_path / "edgekit"
    (package / "core").mkdir(parents=True)
    (package / "_targets").mkdir()
    monkeypatch.setattr(profiles, "__file__", str(package / "core" / "profiles.py"))
    assert profiles_folder() == package / "_targets"


@pytest.mark.parametrize(
    ("target", "overrides", "lacks"),
    [
        ("cpu-x86", (), True),
        ("cpu-x86-vnni", (), False),
        ("cpu-x86", ('features=["avx_vnni"]',), False),
        ("cpu-arm64", (), False),
    ],
)
def test_processors_that_may_lack_a_feature(
    target: str, overrides: tuple[str, ...], lacks: bool
) -> None:
    """An x86 target lacks what it does not promise; another architecture has no such question."""
    assert load_profile(target, overrides=overrides).may_lack(VNNI) is lacks
