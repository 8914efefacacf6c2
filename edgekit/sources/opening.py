"""`open_source`: whatever the user names as SOURCE, as one loaded module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import ConfigError, EdgekitError
from edgekit.core.lazy import rare_collections
from edgekit.core.onnx_file import names_onnx
from edgekit.sources.inputs import PROCESSOR_FILES, TEXT_AXES, parse_inputs, symbols
from edgekit.sources.pruned.plan import has_plan, read_plan

if TYPE_CHECKING:
    from edgekit.sources.loaded import LoadedSource
    from edgekit.sources.pruned.plan import Plan

_KINDS = (
    "SOURCE is a Hugging Face id, a local folder, package.module:factory, file.py:factory or"
    " program.pt2"
)
_FILES = {
    ".onnx": "It is ONNX already: make a bundle of it with edgekit import FILE.onnx -o BUNDLE",
    ".py": "Name the function in it: file.py:factory",
    ".pt": "Give a factory that builds the module and loads these weights (file.py:factory)",
    ".pth": "Give a factory that builds the module and loads these weights (file.py:factory)",
    ".bin": "Give the folder that holds it, with its config.json",
    ".safetensors": "Give the folder that holds it, with its config.json",
}


# transformers imports the modules of a model only when it is loaded.
@rare_collections()
def open_source(
    spec: str,
    *,
    task: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
) -> LoadedSource:
    """The PyTorch model that `spec` names, in eval mode and float32 unless `dtype` says otherwise.

    `inputs` are `--input` declarations and are for factories only. A local source is opened
    without any network attempt; nothing of it is run that the user did not name or trust.

    Raises:
        ConfigError: nothing is there; an unknown task, dtype or revision; wrong declarations.
        SourceError: something is there that cannot be used, with the remedy.
    """
    declared = parse_inputs(inputs)
    path = Path(spec).expanduser()
    local = path.exists() or path.suffix == ".pt2" or ":" in spec
    if revision is not None and local:
        raise ConfigError(
            f"--revision is for models of the Hugging Face hub, and {spec} is local.",
            hint="Leave --revision away.",
        )
    if dtype is not None and dtype != "float32" and path.suffix == ".pt2":
        raise ConfigError(
            f"The dtype of {spec} was fixed when it was exported, got --dtype {dtype}.",
            hint="Leave --dtype away, or export the program again in that dtype.",
        )
    if path.suffix == ".pt2":
        return _open_program(path, spec, task, trust_remote_code)
    if path.is_dir():
        plan = read_plan(path) if has_plan(path) else None
        if plan is not None and plan.factory is not None:
            return _open_pruned_module(path, plan, task, dtype, trust_remote_code)
        _only_for_factories(declared, spec)
        from edgekit.sources.huggingface import open_folder

        return open_folder(
            path,
            id=path.resolve().name,
            revision=None,
            task=task,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
    if path.is_file():
        hint = _FILES.get(path.suffix, _KINDS)
        raise ConfigError(f"The file {spec} is no source by itself.", hint=f"{hint}.")
    if ":" in spec:
        return _open_factory(spec, task, dtype, inputs)
    from edgekit.sources import hub

    if not hub.is_hub_id(spec) or path.suffix in _FILES:
        raise ConfigError(f"There is nothing at {spec!r}.", hint=f"Check the path. {_KINDS}.")
    _only_for_factories(declared, spec)
    folder, commit = hub.fetch(spec, revision, code=trust_remote_code)
    from edgekit.sources.huggingface import open_folder

    return open_folder(
        folder,
        id=spec,
        revision=commit or revision,
        task=task,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )


def open_reference(
    spec: str,
    *,
    task: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    inputs: Sequence[str] = (),
) -> LoadedSource:
    """What a bundle is held to: what `open_source` opens, or an imported model.

    That is an ONNX file, or the bundle that was imported from one. Raises as `open_source` and
    `edgekit.sources.imported.open_imported` do.
    """
    if not names_onnx(spec):
        try:
            return open_source(
                spec,
                task=task,
                revision=revision,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                inputs=inputs,
            )
        except EdgekitError as error:
            # The commands that take a reference have no such option: its task is the bundle's.
            if error.hint is not None and "--task" in error.hint:
                of = "" if task is None else f", which is for {task}"
                error.hint = f"Pass the original that the bundle was made from{of}."
            raise
    for option, given in (("--revision", revision), ("--dtype", dtype)):
        if given not in (None, "float32"):
            raise ConfigError(
                f"{option} is for PyTorch models, and {spec} is ONNX.",
                hint=f"Leave {option} away.",
            )
    from edgekit.sources.imported import open_imported

    return open_imported(spec)


def stated_config(spec: str) -> Mapping[str, object] | None:
    """The config.json of a checkpoint that is here already, before anything is loaded; else None.

    Raises SourceError as opening it would.
    """
    path = Path(spec).expanduser()
    if not (path / "config.json").is_file():
        return None
    from edgekit.sources.checks import read_config

    return read_config(path)


def declared_dimensions(spec: str, inputs: Sequence[str]) -> tuple[str, ...] | None:
    """The dimensions of a source that vary, where that is known before it is opened, or None.

    Those of a checkpoint of texts are always the same, those of a factory the ones that `inputs`
    declare.
    Raises ConfigError for a wrong declaration.
    """
    declared = parse_inputs(inputs)
    if declared:
        return symbols(declared)
    path = Path(spec).expanduser()
    code = path.suffix == ".pt2" or (":" in spec and not path.exists())
    pruned = has_plan(path) and not (path / "config.json").is_file()
    # The sizes of pictures vary for some models only.
    if code or pruned or any((path / name).exists() for name in PROCESSOR_FILES):
        return None
    return TEXT_AXES if path.is_dir() else (*TEXT_AXES, "height", "width")


def _only_for_factories(declared: Sequence[object], spec: str) -> None:
    if declared:
        raise ConfigError(
            f"--input is for module factories, and {spec} is a checkpoint.",
            hint="Leave --input away: a checkpoint's inputs follow from its tokenizer.",
        )


def _open_program(path: Path, spec: str, task: str | None, trusted: bool) -> LoadedSource:
    if not path.is_file():
        raise ConfigError(f"There is no file {spec}.", hint="Check the path.")
    _only_custom(task, spec)
    from edgekit.sources.program import open_program

    return open_program(path, id=path.name, trusted=trusted)


def _open_factory(
    spec: str, task: str | None, dtype: str | None, inputs: Sequence[str]
) -> LoadedSource:
    _only_custom(task, spec)
    from edgekit.sources.custom import open_factory
    from edgekit.sources.dtypes import parse_dtype

    return open_factory(spec, inputs=parse_inputs(inputs), dtype=parse_dtype(dtype))


def _open_pruned_module(
    path: Path, plan: Plan, task: str | None, dtype: str | None, trusted: bool
) -> LoadedSource:
    _only_custom(task, str(path))
    from edgekit.sources.dtypes import parse_dtype
    from edgekit.sources.pruned.folder import WEIGHTS, check_plan
    from edgekit.sources.pruned.modules import open_module

    check_plan(plan, path, path, "custom")
    return open_module(path, plan, path / WEIGHTS, dtype=parse_dtype(dtype), trusted=trusted)


def _only_custom(task: str | None, spec: str) -> None:
    if task is None or task == "custom":
        return
    from edgekit.sources.tasks import canonical_task

    raise ConfigError(
        f"{spec} is a module of your own, and the task {canonical_task(task)} is for checkpoints.",
        hint="Leave --task away: such a module takes and gives tensors (task custom).",
    )
