"""What a target asks of a compilation."""

from __future__ import annotations

import pytest

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import load_profile
from edgekit.pipeline import fitting


def test_more_threads_than_cpus_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options measured with threads that wait for each other say little."""
    monkeypatch.setattr(fitting.cpu, "available_threads", lambda: 2)
    assert fitting.threads_note(2) is None
    assert str(fitting.threads_note(64)).startswith("64 threads share the 2 CPUs")


def test_engine_of_the_target_is_put_first() -> None:
    """The others stay behind it; one that the target does not run is refused by name."""
    profile = load_profile("cpu-x86")
    assert fitting.choose_engine(profile, "openvino").engines == ("openvino", "onnxruntime")
    with pytest.raises(ConfigError, match="does not run the engine 'openvinoo'"):
        fitting.choose_engine(profile, "openvinoo")
