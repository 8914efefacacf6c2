"""Sources that are code: module factories, `package.module:factory` and `file.py:factory`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.core.errors import ConfigError, EdgekitError, SourceError
from edgekit.sources.code import find_attribute
from edgekit.sources.inputs import InputSpec, sizes_differing, symbols
from edgekit.sources.loaded import LoadedSource, license_files_in
from edgekit.sources.statehash import state_hash

_NUMBERS = (
    "The outputs are called output_0, output_1… in the order of the tuple that forward() returns;"
    " return a dict to name them."
)
_DECLARE = "Declare it with --input NAME=DTYPE:DIM,DIM… (a name as DIM is a dimension that varies)"


class CustomModule(nn.Module):
    """A user's module whose outputs, of whatever structure, come as a dict of named tensors.

    A dict keeps its keys, a named tuple its fields, a single tensor is `output` and a tuple
    `output_0`, `output_1`…; nested structures join their names with a dot.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.model = inner

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The named outputs for the named inputs."""
        return name_outputs(self.model(**inputs))


def name_outputs(value: object) -> dict[str, Tensor]:
    """The tensors in a module's return value by name. Raises SourceError when there are none."""
    found: dict[str, Tensor] = {}
    if isinstance(value, Tensor):
        found["output"] = value
    else:
        _collect(value, "", found)
    if not found:
        raise SourceError(
            f"The module returns {type(value).__name__} without any tensor in it.",
            hint="Return a tensor, a tuple or a dict of tensors from forward().",
        )
    return found


def _collect(value: object, name: str, found: dict[str, Tensor]) -> None:
    prefix = f"{name}." if name else ""
    if isinstance(value, Tensor):
        found[name] = value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _collect(item, f"{prefix}{key}", found)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for key, item in zip(value._fields, value, strict=True):
            _collect(item, f"{prefix}{key}", found)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            _collect(item, f"{prefix or 'output_'}{index}", found)


def open_factory(
    spec: str, *, inputs: Sequence[InputSpec] = (), dtype: torch.dtype = torch.float32
) -> LoadedSource:
    """The module that `package.module:factory` or `file.py:factory` returns.

    Raises:
        ConfigError: no such file, module or factory; inputs that the module does not take.
        SourceError: the code fails, or returns something other than a module (and samples).
    """
    module, samples, folder = _call_factory(spec)
    stored = stored_dtype(module)
    sha256 = state_hash(module.state_dict())
    module = module.to(dtype).eval().requires_grad_(False)
    sample, axes = _sample_inputs(module, samples, inputs, dtype)
    wrapped = CustomModule(module).eval()
    notes = () if inputs else (_found_axes(sample, axes),)
    if _try(wrapped, sample, spec):
        notes = (*notes, _NUMBERS)
    return LoadedSource(
        kind="factory",
        id=spec if folder is None else Path(spec).name,
        revision=None,
        sha256=sha256,
        architecture=type(module).__name__,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        dtype=stored,
        license=None,
        task="custom",
        module=wrapped,
        sample_inputs=sample,
        dynamic_axes=axes,
        output_axes={},
        folder=folder,
        license_files=license_files_in(folder) if folder else (),
        notes=notes,
    )


def _call_factory(spec: str) -> tuple[nn.Module, object, Path | None]:
    factory, folder = find_attribute(spec)
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ConfigError(
            f"{spec} is {type(factory).__name__}, not a function.",
            hint="Name a function without arguments that returns the nn.Module.",
        )
    try:
        made = factory()
    except EdgekitError:
        raise
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"The factory {spec} failed: {type(error).__name__}: {error}",
            hint="Call it in Python to see its traceback.",
        ) from error
    samples: object = None
    if isinstance(made, tuple) and len(made) == 2:
        made, samples = made
    if not isinstance(made, nn.Module):
        raise SourceError(
            f"The factory {spec} returned {type(made).__name__}.",
            hint="Return an nn.Module, or a tuple (nn.Module, sample_inputs).",
        )
    return made, samples, folder


def stored_dtype(module: nn.Module) -> str:
    """The name of the dtype of the module's first floating-point parameter."""
    for tensor in module.parameters():
        if tensor.is_floating_point():
            return str(tensor.dtype).removeprefix("torch.")
    return "float32"


def _parameters(module: nn.Module) -> list[str]:
    """The names that forward() takes, in their order."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    listed = inspect.signature(module.forward).parameters.values()
    return [parameter.name for parameter in listed if parameter.kind in kinds]


def _sample_inputs(
    module: nn.Module, samples: object, specs: Sequence[InputSpec], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, dict[int, str]]]:
    takes = _parameters(module)
    if specs:
        for spec in specs:
            if spec.name not in takes:
                raise ConfigError(
                    f"--input declares {spec.name!r}, but {type(module).__name__}.forward takes"
                    f" {', '.join(takes) or 'nothing'}.",
                    hint="Name the inputs as forward() does.",
                )
        given = _named_samples(module, samples, takes, dtype) if samples is not None else {}
        sizes = _sizes(specs, given)
        made = {
            spec.name: _checked(given[spec.name], spec)
            if spec.name in given
            else random_input(spec, sizes, dtype)
            for spec in specs
        }
        return made, {spec.name: spec.axes for spec in specs}
    if samples is None:
        raise ConfigError(
            f"Nothing says which inputs {type(module).__name__} takes"
            f" ({', '.join(takes) or 'its forward names none'}).",
            hint=f"{_DECLARE}, or return (module, sample_inputs) from the factory.",
        )
    given = _named_samples(module, samples, takes, dtype)
    return _with_batch(module, given)


def _named_samples(
    module: nn.Module, samples: object, takes: Sequence[str], dtype: torch.dtype
) -> dict[str, Tensor]:
    """The factory's samples by input name, floats in the dtype that the module computes in."""
    if isinstance(samples, Tensor):
        samples = (samples,)
    if isinstance(samples, Mapping):
        named = {str(name): value for name, value in samples.items()}
    elif isinstance(samples, (tuple, list)):
        named = dict(zip(takes, samples, strict=False))
        if len(named) != len(samples):
            raise SourceError(
                f"The factory gives {len(samples)} sample inputs, and"
                f" {type(module).__name__}.forward takes {len(takes)}.",
                hint="Give the samples as a dict by the names of forward().",
            )
    else:
        raise SourceError(
            f"The factory's sample inputs are {type(samples).__name__}.",
            hint="Give a tensor, a tuple of tensors or a dict of tensors by name.",
        )
    for name, value in named.items():
        if not isinstance(value, Tensor) or name not in takes:
            raise SourceError(
                f"The sample input {name!r} is {type(value).__name__}; forward takes tensors"
                f" called {', '.join(takes)}.",
                hint="Give a tensor for each input, by the names of forward().",
            )
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in named.items()
    }


def _sizes(specs: Sequence[InputSpec], given: Mapping[str, Tensor]) -> Mapping[str, int]:
    """The size of every symbol: that of a given sample, else one that differs from all others."""
    sizes = dict(sizes_differing(symbols(specs)))
    for spec in specs:
        if spec.name in given:
            for axis, symbol in spec.axes.items():
                if axis < given[spec.name].dim():
                    sizes[symbol] = given[spec.name].shape[axis]
    return sizes


def _checked(sample: Tensor, spec: InputSpec) -> Tensor:
    dtype = str(sample.dtype).removeprefix("torch.")
    fits = sample.dim() == len(spec.shape) and all(
        isinstance(dim, str) or dim == size
        for dim, size in zip(spec.shape, sample.shape, strict=True)
    )
    # --dtype changes the type of what was declared as float32.
    same = dtype == spec.dtype or (sample.is_floating_point() and spec.dtype == "float32")
    if not fits or not same:
        raise ConfigError(
            f"--input declares {spec.name} as {spec.dtype}{list(spec.shape)}, but the factory's"
            f" sample is {dtype}{list(sample.shape)}.",
            hint="Make the two agree.",
        )
    return sample


def _with_batch(
    module: nn.Module, given: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, dict[int, str]]]:
    """The samples and their varying axes: the first one as `batch` where PyTorch shows it is one.

    It is where all samples agree on its size and every output grows with it. A sample of one row
    is doubled, because torch.export specialises on the size 1.
    """
    fixed: dict[str, dict[int, str]] = {name: {} for name in given}
    firsts = {value.shape[0] if value.dim() else 0 for value in given.values()}
    if len(firsts) != 1 or 0 in firsts:
        return given, fixed
    doubled = {name: torch.cat([value, value]) for name, value in given.items()}
    try:
        with torch.inference_mode():
            once, twice = name_outputs(module(**given)), name_outputs(module(**doubled))
    except Exception:
        # It takes this one batch size only; the sample itself is tried by the caller.
        return given, fixed
    for name, output in once.items():
        wanted = (2 * output.shape[0], *output.shape[1:]) if output.dim() else None
        if wanted is None or tuple(twice[name].shape) != wanted:
            return given, fixed
    axes = {name: {0: "batch"} for name in given}
    return (doubled if firsts == {1} else given), axes


def random_input(
    spec: InputSpec, sizes: Mapping[str, int], dtype: torch.dtype, *, seed: int = 0
) -> Tensor:
    """A random tensor for a declared input: normal, or 0 and 1 for integers and booleans.

    Small integers are valid as ids of any embedding and as masks. Declared float32 becomes the
    dtype the module was asked to compute in.
    """
    shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape]
    generator = torch.Generator().manual_seed(seed + sum(map(ord, spec.name)))
    kind: torch.dtype = getattr(torch, spec.dtype)
    if kind.is_floating_point:
        wanted = dtype if kind == torch.float32 else kind
        return torch.randn(shape, generator=generator).to(wanted)
    return torch.randint(0, 2, shape, generator=generator).to(kind)


def _found_axes(sample: Mapping[str, Tensor], axes: Mapping[str, Mapping[int, str]]) -> str:
    """What was made of the factory's samples, where no --input says which dimensions vary."""
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in sample.items())
    if any(axes.values()):
        return (
            f"Of the factory's samples ({shapes}) the first axis was found to be the batch, and"
            " varies; every other dimension is fixed. To let one vary, name it with --input"
            " NAME=DTYPE:DIM,DIM…"
        )
    return (
        f"All dimensions are fixed as in the factory's samples ({shapes}), because no --input"
        " names one that varies: --input NAME=DTYPE:DIM,DIM… for each input, a name as DIM."
    )


def _try(module: CustomModule, sample: Mapping[str, Tensor], spec: str) -> bool:
    """Whether the outputs are called by number. Raises SourceError when the module fails."""
    try:
        with torch.inference_mode():
            value = module.model(**sample)
        name_outputs(value)
        return isinstance(value, (tuple, list)) and not hasattr(value, "_fields")
    except EdgekitError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in sample.items())
        raise SourceError(
            f"The module of {spec} fails on the inputs {shapes}: {type(error).__name__}: {error}",
            hint=f"{_DECLARE} so that they fit forward().",
        ) from error
