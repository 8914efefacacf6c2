"""Reports as files: checked before any work begins, and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import ConfigError, StepError, disk_errors
from edgekit.core.lazy import require_installed
from edgekit.core.manifest import MANIFEST_NAME
from edgekit.core.reading import MAX_RESULT_BYTES, parse_json
from edgekit.core.results import to_json
from edgekit.reporting.markdown import render_markdown
from edgekit.reporting.page import render_html
from edgekit.reporting.reading import Result, evidence_result

#: The name under which a bundle may keep the whole result that its evidence sums up.
RESULT_NAME = "report.json"


def require_reporting(html: Path | None, markdown: Path | None, *, force: bool = False) -> None:
    """Make sure, before the measuring begins, that its reports can be written.

    Raises:
        MissingDependency: a page was asked for and the ``report`` extra is not installed.
        ConfigError: an output exists (unless `force`), is a folder, or has no folder to lie in.
    """
    for path in (html, markdown):
        if path is None:
            continue
        with disk_errors(StepError, f"looking at the output {path}"):
            if path.is_dir():
                raise ConfigError(
                    f"The report {path} is a folder.", hint="Name a file, such as report.html."
                )
            if not path.absolute().parent.is_dir():
                raise ConfigError(
                    f"There is no folder {path.parent} for the report {path.name}.",
                    hint="Make the folder first, or choose another file.",
                )
            if path.absolute().parent.joinpath(MANIFEST_NAME).exists():
                raise ConfigError(
                    f"The report {path} would lie inside a bundle, which holds listed files only.",
                    hint="Choose a file outside of the bundle.",
                )
            if path.exists() and not force:
                raise ConfigError(
                    f"The output {path} exists.",
                    hint="Choose another file, or pass --force to replace it.",
                )
    if html is not None:
        require_installed(("matplotlib", "jinja2"), "report")


def write_reports(
    result: Result,
    html: Path | None,
    markdown: Path | None,
    *,
    force: bool = False,
) -> None:
    """Write the reports of a result that were asked for; None is one that was not.

    Raises as `require_reporting` does, and StepError when the disk is full.
    """
    plain = to_json(result)
    _write(plain if isinstance(plain, dict) else {}, html, markdown, force=force)


def write_report(
    source: Path, output: Path | None, *, markdown: Path | None = None, force: bool = False
) -> None:
    """Write the report of a bundle's evidence, or of a file that holds a result as JSON.

    Raises:
        ConfigError: there is no such file, it holds no result, or the bundle no evidence.
        BundleError: the folder is no bundle, or a damaged one.
    """
    require_reporting(output, markdown, force=force)
    _write(load_result(source), output, markdown, force=force)


def load_result(source: Path) -> Mapping[str, object]:
    """The JSON of a result: of a file, or of a bundle from its evidence; raises as `write_report`.

    A bundle that keeps its whole result gives that, unless a later one was recorded; of others the
    manifest knows the sum.
    """
    with disk_errors(StepError, f"reading {source}"):
        if not source.exists():
            raise ConfigError(f"There is nothing at {source}.", hint="Check the path.")
        if not source.is_dir():
            return _load(source)
    bundle = open_bundle(source, check="quick")
    if any(entry.path == RESULT_NAME for entry in bundle.manifest.files):
        whole = _load(bundle.file(RESULT_NAME))
        if _is_recorded(whole, bundle.manifest.evidence):
            return whole
    plain = to_json(evidence_result(bundle))
    return plain if isinstance(plain, dict) else {}


def _is_recorded(whole: Mapping[str, object], evidence: Mapping[str, object]) -> bool:
    """Whether a whole result is the one that the evidence sums up."""
    if "accuracy" not in evidence:
        return True
    accuracy = whole.get("accuracy")
    judged = dict(accuracy) if isinstance(accuracy, Mapping) else {}
    return (
        evidence["accuracy"] == {"verdict": whole.get("verdict"), **judged}
        and evidence.get("latency") == whole.get("latency")
        and evidence.get("device") == whole.get("device")
    )


def _load(path: Path) -> Mapping[str, object]:
    with disk_errors(StepError, f"reading {path}"):
        if path.stat().st_size > MAX_RESULT_BYTES:
            raise ConfigError(f"{path} is too large for a result.", hint="Check the path.")
        try:
            found = parse_json(path.read_bytes())
        except ConfigError as error:
            raise ConfigError(
                f"{path} cannot be read: {error.message}",
                hint="Give what validate, bench, prune, quantize or build printed with --json.",
            ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no JSON object.", hint="Check the path.")
    return found


def _write(
    result: Mapping[str, object], html: Path | None, markdown: Path | None, *, force: bool
) -> None:
    require_reporting(html, markdown, force=force)
    # Both are made before either is written.
    texts = [
        (path, render(result))
        for path, render in ((html, render_html), (markdown, render_markdown))
        if path is not None
    ]
    for path, text in texts:
        with disk_errors(StepError, f"writing the report {path}"):
            _replace(path, text)


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old one or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode("utf-8", errors="backslashreplace"))
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
