"""Writes the generated tables of README.md: ``python -m benchmarks.readme``.

The targets come from the profiles; the measured results from what the other benchmarks left in
``demo/``, and stay as they are where a benchmark has not been run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgekit.core.profiles import list_profiles

README = Path(__file__).resolve().parents[1] / "README.md"
RESULTS = Path("demo") / "bench" / "results.json"


def markdown(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def targets() -> str:
    """The table of target profiles."""
    return markdown(
        ("target", "engines", "device", "CPU", "precisions, in order of trial", "status"),
        [
            (
                f"`{profile.name}`",
                ", ".join(profile.engines),
                profile.device,
                "this machine" if profile.name == "host" else profile.arch or "any",
                ", ".join(profile.precisions),
                profile.status,
            )
            for profile in list_profiles()
        ],
    )


def between(text: str, name: str, content: str) -> str:
    """`text` with what stands between the markers of a name replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README.md has no markers for {name}")
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", text)


def main() -> None:
    """Rewrite README.md in place."""
    text = between(README.read_text(encoding="utf-8"), "targets", targets())
    if RESULTS.is_file():
        text = between(text, "results", json.loads(RESULTS.read_text())["figures"]["markdown"])
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
