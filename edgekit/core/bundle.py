"""Bundles on disk: opened only when they are whole and safe, written only whole."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from edgekit.core._bundle_checks import AGAIN, check_external_data, check_files
from edgekit.core.errors import (
    BundleCorrupt,
    BundleUnsafe,
    ConfigError,
    ExportError,
    StepError,
    disk_errors,
)
from edgekit.core.hashing import sha256_file
from edgekit.core.manifest import (
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    parse_manifest,
)
from edgekit.core.paths import safe_relative_path

Check = Literal["full", "quick"]


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: a folder whose files are the ones its manifest lists."""

    path: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """The bundle's identity (see `Manifest.bundle_id`)."""
        return self.manifest.bundle_id()

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists; BundleCorrupt for any other name."""
        if all(entry.path != name for entry in self.manifest.files):
            raise BundleCorrupt(f"The bundle {self.path} has no file {name!r}.", hint=AGAIN)
        return self.path / name

    def bytes(self, *roles: str) -> int:
        """The size in bytes of the files of some roles; of component and weights by default."""
        wanted = roles or ("component", "weights")
        return sum(entry.bytes for entry in self.manifest.files if entry.role in wanted)


def open_bundle(path: Path | str, *, check: Check = "full") -> Bundle:
    """The bundle in a folder, refused when it is not exactly what its manifest says.

    ``full`` hashes every file; ``quick`` compares names, kinds and sizes only.

    Raises:
        ConfigError: there is no such folder.
        BundleCorrupt: no manifest; a file missing, surplus, of another size or hash.
        BundleVersion: written for a newer format.
        BundleUnsafe: a symlink, a special file, a path or external data leading outside.
    """
    root = Path(path)
    with disk_errors(StepError, f"looking at {root}"):
        found = root.exists()
    if not found:
        raise ConfigError(f"There is no bundle at {root}.", hint="Check the path.")
    if not root.is_dir():
        raise ConfigError(
            f"{root} is a file; a bundle is a folder with an {MANIFEST_NAME}.",
            hint="Give the folder that holds it.",
        )
    with _readable(root):
        manifest = parse_manifest(_read_manifest_bytes(root))
        check_files(root, manifest, hashed=check == "full")
        check_external_data(root, manifest)
    return Bundle(root, manifest)


class _readable:
    """Turns an unreadable file into the bundle's own error."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, PermissionError):
            raise ConfigError(
                f"No permission to read {error.filename or self._root}.",
                hint="Change the file's permissions.",
            ) from error
        if isinstance(error, OSError):
            raise BundleCorrupt(f"The bundle {self._root} cannot be read: {error}.") from error


def _read_manifest_bytes(root: Path) -> bytes:
    path = root / MANIFEST_NAME
    try:
        info = path.lstat()
    except FileNotFoundError as error:
        raise BundleCorrupt(
            f"{root} is not a bundle: it has no {MANIFEST_NAME}.",
            # What Hugging Face's libraries save, and what an export starts from.
            hint=f"This is a model folder: export it first with: edgekit export {root} -o BUNDLE"
            if (root / "config.json").is_file()
            else "Make one with: edgekit export SOURCE -o BUNDLE",
        ) from error
    if not stat.S_ISREG(info.st_mode):
        raise BundleUnsafe(f"{MANIFEST_NAME} in {root} is not a regular file.")
    if info.st_size > MANIFEST_MAX_BYTES:
        raise BundleUnsafe(
            f"{MANIFEST_NAME} in {root} has {info.st_size} bytes, more than the"
            f" {MANIFEST_MAX_BYTES} allowed.",
            hint="Do not use this bundle.",
        )
    with path.open("rb") as stream:
        return stream.read(MANIFEST_MAX_BYTES + 1)


class BundleWriter:
    """Writes a bundle beside its final place and moves it there when it is whole.

    Use as a context manager. Files are written into `directory` and named to `add`; `stage` turns
    them into an opened bundle that can be tried; `commit` renames. Leaving without `commit`, by an
    error, Ctrl-C or SIGTERM, removes every trace.

    Raises ConfigError when the output exists (unless `force`), holds something that is not a
    bundle, lies inside another bundle, or cannot be written to.
    """

    def __init__(
        self,
        output: Path | str,
        *,
        force: bool = False,
        error: type[StepError] = ExportError,
    ) -> None:
        self.output = Path(output).absolute()
        self._force = force
        self._error = error
        self._roles: dict[str, str] = {}
        self._hashes: dict[str, tuple[tuple[int, int, int], str]] = {}
        self._made_parents: list[Path] = []
        self._staged: Bundle | None = None
        self._committed = False
        self._directory: Path | None = None
        check_output(self.output, force=force)

    @property
    def directory(self) -> Path:
        """The temporary folder to write into."""
        if self._directory is None:
            raise RuntimeError("BundleWriter is used outside of its with block")
        return self._directory

    def __enter__(self) -> BundleWriter:
        try:
            with disk_errors(self._error, f"making the folder of {self.output}"):
                self._make_directory()
        except FileNotFoundError as error:
            # /proc and its like hold what the kernel puts there, and nothing else.
            self._clean()
            raise no_output_folder(self.output, str(error.strerror)) from error
        except BaseException:
            self._clean()
            raise
        return self

    def _make_directory(self) -> None:
        parent = self.output.parent
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self._made_parents.append(folder)
        made = tempfile.mkdtemp(prefix=f".{self.output.name}.", suffix=".part", dir=parent)
        self._directory = Path(made)
        # mkdtemp makes a private folder; a bundle is as readable as any other output.
        umask = os.umask(0)
        os.umask(umask)
        self._directory.chmod(0o777 & ~umask)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._clean()

    def _clean(self) -> None:
        """Remove what was not committed; after a commit there is nothing to remove."""
        if self._committed:
            return
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            if self.output.exists():
                # Interrupted after the swap: what was replaced is not needed any more.
                shutil.rmtree(f"{self._directory}.old", ignore_errors=True)
        self._directory = None
        for folder in reversed(self._made_parents):
            # A folder that somebody else uses by now stays.
            try:
                folder.rmdir()
            except OSError:
                break

    def add(self, name: str, role: str) -> Path:
        """Register the file `name`, written or to be written into `directory`; its path."""
        self._roles[safe_relative_path(name, "the new bundle")] = role
        # Whatever is written now, an old hash is not its hash.
        self._hashes.pop(name, None)
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def copy(self, source: Path, name: str, role: str) -> Path:
        """Copy a file into the bundle as `name` and register it; its path there."""
        path = self.add(name, role)
        with disk_errors(self._error, f"writing {name} of {self.output}"):
            shutil.copyfile(source, path)
        return path

    def copy_from(self, bundle: Bundle, *roles: str) -> None:
        """Copy a bundle's files of some roles, all of them by default, under their own names."""
        for entry in bundle.manifest.files:
            if not roles or entry.role in roles:
                self.copy(bundle.file(entry.path), entry.path, entry.role)

    def stage(self, manifest: Manifest) -> Bundle:
        """The bundle as it would be committed, opened in the temporary folder to be tried.

        Fills in the manifest's list of files. May be called again after a change; a file that is
        written again is named to `add` again.
        """
        with disk_errors(self._error, f"writing the manifest of {self.output}"):
            entries = tuple(self._entry(name, role) for name, role in sorted(self._roles.items()))
            data = self._manifest_bytes(replace(manifest, files=entries))
            (self.directory / MANIFEST_NAME).write_bytes(data)
        # Hashes were taken here: what is left to check is surplus files and safety.
        self._staged = open_bundle(self.directory, check="quick")
        return self._staged

    def _manifest_bytes(self, manifest: Manifest) -> bytes:
        try:
            return manifest.to_json()
        except ValueError as error:
            # A model may have any number of inputs and outputs, with names of any length.
            raise self._error(
                f"{self.output} cannot be written: {error}.",
                hint="Give the model fewer inputs, outputs or labels, or shorter names.",
            ) from error

    def _entry(self, name: str, role: str) -> FileEntry:
        """The file as the manifest lists it, hashed again only when it may have changed."""
        path = self.directory / name
        info = path.stat()
        stamp = (info.st_ino, info.st_size, info.st_mtime_ns)
        known = self._hashes.get(name)
        if known is None or known[0] != stamp:
            # Weights of a gigabyte take seconds, and a step stages up to five times.
            known = self._hashes[name] = (stamp, sha256_file(path))
        return FileEntry(name, info.st_size, known[1], role)

    def commit(self) -> Bundle:
        """Move the staged bundle to its place; the bundle there."""
        if self._staged is None:
            raise RuntimeError("stage() comes before commit()")
        manifest = self._staged.manifest
        with disk_errors(self._error, f"moving the bundle to {self.output}"):
            check_output(self.output, force=self._force)
            retired = Path(f"{self.directory}.old") if self.output.exists() else None
            try:
                if retired is not None:
                    self.output.rename(retired)
                self.directory.rename(self.output)
            except BaseException:
                # Also Ctrl-C between the two renames: the old bundle goes back to its place.
                if retired is not None and not self.output.exists():
                    retired.rename(self.output)
                raise
        self._committed = True
        if retired is not None:
            shutil.rmtree(retired, ignore_errors=True)
        return Bundle(self.output, manifest)


def replace_evidence(bundle: Bundle, evidence: Mapping[str, object]) -> Bundle:
    """The bundle with other evidence in its manifest, written atomically; its id stays.

    Raises ConfigError or StepError when the folder cannot be written to.
    """
    changed = replace(bundle.manifest, evidence=dict(evidence))
    path = bundle.path / MANIFEST_NAME
    # Beside the bundle, not inside: a reader refuses surplus files, also for a moment.
    beside = bundle.path.absolute().parent
    with disk_errors(StepError, f"recording evidence in {path}"):
        handle, temporary = tempfile.mkstemp(prefix=f".{bundle.path.name}.", dir=beside)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(changed.to_json())
            Path(temporary).chmod(path.stat().st_mode & 0o777)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return Bundle(bundle.path, changed)


def no_output_folder(output: Path, reason: str) -> ConfigError:
    """The error of an output that nobody can write."""
    return ConfigError(
        f"No folder can be made for the output {output}: {reason}.",
        hint="Choose an output folder that you can write to with -o.",
    )


def nearest_folder(output: Path) -> Path:
    """The folder that is there already in which an output's own will lie.

    Raises ConfigError where a file stands in its way.
    """
    nearest = next(folder for folder in output.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise no_output_folder(output, f"{nearest} is a file")
    return nearest


def check_output(output: Path, *, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Raise ConfigError when `output` must not be written; called before any long work starts.

    `inputs` are what the step reads: replacing one of them would change it.
    """
    with disk_errors(StepError, f"looking at the output {output}"):
        _check_output(output, force=force, inputs=inputs)


def _check_output(output: Path, *, force: bool, inputs: Sequence[Path]) -> None:
    if output.absolute() == Path.cwd() or not output.absolute().name:
        raise ConfigError(
            f"The output {output} is the current folder.", hint="Name a new folder with -o."
        )
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise ConfigError(
                f"The output {output} is the input; bundles are never changed.",
                hint="Choose another -o.",
            )
    for folder in output.absolute().parents:
        if (folder / MANIFEST_NAME).exists():
            raise ConfigError(
                f"The output {output} lies inside the bundle {folder}.",
                hint="Choose an output folder outside of it: bundles are never changed.",
            )
    nearest_folder(output)
    if not os.path.lexists(output):
        return
    if output.is_symlink() or not output.is_dir():
        raise ConfigError(
            f"The output {output} exists and is not a folder.", hint="Choose another -o."
        )
    holds_bundle = (output / MANIFEST_NAME).exists()
    if not holds_bundle and any(output.iterdir()):
        raise ConfigError(
            f"The output {output} exists and holds something other than a bundle.",
            hint="Choose another -o; --force replaces bundles only.",
        )
    if holds_bundle and not force:
        raise ConfigError(
            f"The output {output} exists.", hint="Choose another -o, or pass --force to replace it."
        )
