"""What a bundle is held to: a PyTorch source, or the ONNX model that was imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ConfigError
from edgekit.core.lazy import require, require_installed
from edgekit.core.manifest import Manifest
from edgekit.core.onnx_file import names_onnx
from edgekit.runtime.golden import read

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource


# What evidence rests on where the model itself was not opened.
STORED_ANSWERS = "stored golden answers"


@dataclass(frozen=True)
class Original:
    """The reference of a validation.

    ``spec`` is what opens it, None where only its answers to the golden inputs are at hand;
    ``notes`` tell what it is, where that is not a PyTorch model.
    """

    spec: str | None
    notes: tuple[str, ...] = ()


def holds_original(bundle: Path) -> str | None:
    """The bundle itself as a reference, where it holds the model that was imported, else None."""
    manifest = open_bundle(bundle, check="quick").manifest
    return str(bundle) if _is_imported(manifest) and manifest.stage == "imported" else None


def find_original(bundle: Bundle, reference: str | None, *, data: bool, timed: bool) -> Original:
    """What a bundle is judged against, where `reference` names nothing.

    `data` and `timed` say what needs the model itself. Raises ConfigError where it is not at hand,
    or where what is named is a model of another kind.
    """
    manifest = bundle.manifest
    known = manifest.source
    if reference is not None:
        _check_kind(bundle, reference)
    if known is None or not _is_imported(manifest):
        if reference is None:
            origin = "" if known is None else f", {known.origin.id}"
            raise ConfigError(
                f"Judging {bundle.path} needs the original model{origin}.",
                hint="Pass --reference SOURCE.",
            )
        return Original(reference)
    name = known.origin.id
    if reference is None and manifest.stage == "imported":
        reference = str(bundle.path)
    if reference is not None:
        return Original(
            reference,
            (
                f"The reference is the imported model itself, {name}: its answers are those of ONNX"
                " Runtime with its optimisations off, its speed that with all of them.",
            ),
        )
    if data or timed:
        what = "--data" if data else "A gate on speed or memory"
        raise ConfigError(
            f"{what} needs the imported model itself, {name}, which {bundle.path} does not hold.",
            hint=f"Pass --reference {name}, or the bundle that was imported from it.",
        )
    stored = None if manifest.golden is None else read(bundle.file(manifest.golden.file))
    if stored is None or not stored.reference:
        raise ConfigError(
            f"{bundle.path} holds no answers of the imported model {name} for its shapes.",
            hint=f"Pass --reference {name}, or the bundle that was imported from it.",
        )
    return Original(
        None,
        (
            f"The reference is the imported model itself, {name}, as far as the bundle holds its"
            " answers: those to the golden inputs. For speed and DATA name the model with"
            " --reference.",
        ),
    )


def load_original(
    bundle: Bundle,
    original: Original,
    *,
    task: str | None,
    revision: str | None,
    trust_remote_code: bool,
    inputs: tuple[str, ...],
) -> LoadedSource:
    """The reference, opened. Raises MissingDependency and what opening it raises."""
    for package in _packages(original.spec):
        # What is installed may still be broken: that is told here, with its remedy.
        require(package, "build")
    if original.spec is None:
        from edgekit.sources.imported import stored_source

        assert bundle.manifest.golden is not None
        return stored_source(bundle, read(bundle.file(bundle.manifest.golden.file)))
    from edgekit.sources.opening import open_reference

    return open_reference(
        original.spec,
        task=task,
        revision=revision,
        trust_remote_code=trust_remote_code,
        inputs=inputs,
    )


def require_original(spec: str) -> None:
    """Raise MissingDependency unless what opens the reference is installed; nothing is imported."""
    require_installed(_packages(spec), "build")


def opening_modules(spec: str | None) -> tuple[str, ...]:
    """What opening the reference imports, most of which takes seconds."""
    if spec is None or ":" in spec or spec.endswith(".pt2") or names_onnx(spec):
        return ("torch",)
    return "torch", "transformers", "transformers.modeling_utils"


def _packages(spec: str | None) -> list[str]:
    return [name for name in opening_modules(spec) if "." not in name]


def _is_imported(manifest: Manifest) -> bool:
    return manifest.source is not None and manifest.source.kind == "onnx"


# What a source is called in a sentence.
_CALLED = {"onnx": "an ONNX model", "own": "a module of your own", "folder": "a checkpoint"}


def _check_kind(bundle: Bundle, spec: str) -> None:
    """A checkpoint's bundle is judged against a checkpoint, a module's against a module.

    Looks at the names alone, before anything is loaded; what exists nowhere is told later.
    """
    path = Path(spec).expanduser()
    if names_onnx(spec):
        given = "onnx"
    else:
        own = path.suffix == ".pt2" or (":" in spec and not path.exists())
        given = "own" if own else "folder"
    known = bundle.manifest.source
    if known is None:
        made = "own" if bundle.manifest.task == "custom" else "folder"
    else:
        made = {"huggingface": "folder", "onnx": "onnx"}.get(known.kind, "own")
    if given == made or (given == "folder" and path.is_file()):
        return
    origin = None if known is None else known.origin.id
    whose = f" ({origin})" if origin else ""
    raise ConfigError(
        f"{bundle.path} is made from {_CALLED[made]}{whose}, and --reference {spec} names"
        f" {_CALLED[given]}.",
        hint=f"Pass the original of this bundle{f', {origin}' if origin else ''}.",
    )
