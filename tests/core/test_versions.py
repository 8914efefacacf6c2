"""core/versions.py: release numbers."""

from __future__ import annotations

from edgekit.core.versions import release, version_key


def test_versions_compare_by_their_numbers() -> None:
    """1.9 is older than 1.10, zeros at the end and a build suffix do not count."""
    assert version_key("1.9") < version_key("1.10") < version_key("2026.0")
    assert version_key("2026.0.0") == version_key("2026.0") == version_key("2026")
    assert version_key("1.31.1rc2.5") == (1, 31, 1)
    assert version_key("1.31+cpu") == (1, 31)
    assert version_key("unknown") == ()


def test_release_is_major_and_minor() -> None:
    """A bundle asks for the release, not for one build of it."""
    assert release("2026.4.1-22982-e213a147257") == "2026.4"
    assert release("2026.0.0") == "2026.0"
