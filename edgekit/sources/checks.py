"""What a checkpoint folder must not be: refused, with the remedy, before anything is loaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from edgekit.core.errors import SourceError
from edgekit.core.manifest import MANIFEST_NAME

_SAFE_INDEX = "model.safetensors.index.json"
_PICKLE_INDEX = "pytorch_model.bin.index.json"
# Weights of other frameworks, and what turns them into safetensors.
_FOREIGN = {
    ".gguf": "Load it once with transformers (gguf_file=…) and save it with save_pretrained",
    ".h5": "Convert it with an older transformers: from_pretrained(folder, from_tf=True)",
    ".msgpack": "Convert it with an older transformers: from_pretrained(folder, from_flax=True)",
    ".ckpt.index": "Convert it with an older transformers: from_pretrained(folder, from_tf=True)",
    ".onnx": "It is ONNX already; export starts from the PyTorch model that it was made of",
}
# safetensors' names of the types a model computes in; the rest are indices and counters.
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ELEMENTS = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}

Json = Mapping[str, object]


def read_json(path: Path) -> dict[str, object]:
    """The JSON object in a file of the checkpoint. Raises SourceError when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} is not readable JSON ({error}).", hint="Get the checkpoint again."
        ) from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds no JSON object.", hint="Get the checkpoint again.")
    return value


def read_config(folder: Path) -> dict[str, object]:
    """The checkpoint's config.json. Raises SourceError when the folder is no full model.

    Refused are adapters, folders without a config, and weights that were quantized before.
    """
    if (folder / "adapter_config.json").exists():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise SourceError(
            f"{folder} holds a PEFT adapter for {base or 'a base model'}, not a whole model.",
            hint="Merge it first: PeftModel.from_pretrained(base, folder).merge_and_unload()"
            ".save_pretrained(merged), save the tokenizer there too, and export that folder.",
        )
    if (folder / MANIFEST_NAME).exists():
        raise SourceError(
            f"{folder} is a bundle, not a PyTorch model.",
            hint="Give the model that it was exported from.",
        )
    if not (folder / "config.json").exists():
        found = [path.name for path in sorted(folder.iterdir())][:8]
        raise SourceError(
            f"{folder} has no config.json; it holds {', '.join(found) or 'nothing'}.",
            hint="Give a folder that was written by save_pretrained, or a module factory"
            " (file.py:factory).",
        )
    config = read_json(folder / "config.json")
    method = _quantized_with(folder, config)
    if method:
        raise SourceError(
            f"The checkpoint {folder} was quantized already ({method}).",
            hint="Export the original float checkpoint.",
        )
    return config


def _quantized_with(folder: Path, config: Json) -> str | None:
    declared = config.get("quantization_config")
    if isinstance(declared, Mapping):
        method = declared.get("quant_method")
        if method is None:
            method = next(
                (key for key in ("load_in_4bit", "load_in_8bit") if declared.get(key)), ""
            )
        return str(method or "unknown method")
    # AutoGPTQ and AutoAWQ wrote their own file beside the config.
    for name, method in (("quantize_config.json", "gptq"), ("quant_config.json", "awq")):
        if (folder / name).exists():
            return method
    return None


def refuse_remote_code(folder: Path, config: Json, *, trusted: bool) -> None:
    """Raise SourceError for a checkpoint that needs its own code, unless it is trusted."""
    if trusted or "auto_map" not in config:
        return
    import transformers

    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    # Many checkpoints still carry code for what transformers has learnt since.
    if names and all(hasattr(transformers, str(name)) for name in names):
        return
    raise SourceError(
        f"The checkpoint {folder} needs Python code of its own"
        f" ({', '.join(map(str, names)) or 'auto_map in config.json'}).",
        hint="Read that code, then pass --trust-remote-code to run it.",
    )


def check_weights(folder: Path) -> str:
    """The name of the dtype that most weights of the checkpoint are stored in.

    Raises SourceError for missing shards, unreadable safetensors, a folder without PyTorch weights
    and pickles that torch does not read as weights only.
    """
    files = _weight_files(folder)
    if files[0].suffix == ".safetensors":
        counts: Counter[str] = Counter()
        for path in files:
            counts.update(_safetensors_types(path))
    else:
        counts = _pickle_types(files)
    return counts.most_common(1)[0][0] if counts else "float32"


def _weight_files(folder: Path) -> list[Path]:
    for index in (_SAFE_INDEX, _PICKLE_INDEX):
        single = folder / index.removesuffix(".index.json")
        if single.exists():
            return [single]
        if (folder / index).exists():
            return _shards(folder, index)
    for ending, remedy in _FOREIGN.items():
        foreign = sorted(folder.glob(f"*{ending}"))
        if foreign:
            raise SourceError(
                f"{folder} holds no PyTorch weights, only {foreign[0].name}.", hint=f"{remedy}."
            )
    raise SourceError(
        f"{folder} holds no weights: neither model.safetensors nor pytorch_model.bin.",
        hint="Download the checkpoint completely, or save it with save_pretrained.",
    )


def _shards(folder: Path, index: str) -> list[Path]:
    weight_map = read_json(folder / index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise SourceError(f"{folder / index} has no weight_map.", hint="Get the checkpoint again.")
    names = sorted({str(name) for name in weight_map.values()})
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(names)} weight files are missing from {folder}:"
            f" {', '.join(missing[:4])}{'…' if len(missing) > 4 else ''}.",
            hint="Download the checkpoint completely.",
        )
    return [folder / name for name in names]


def _safetensors_types(path: Path) -> Counter[str]:
    from safetensors import SafetensorError, safe_open

    counts: Counter[str] = Counter()
    try:
        with safe_open(path, framework="np") as stored:
            for name in stored.keys():  # noqa: SIM118 - safe_open is no mapping
                part = stored.get_slice(name)
                kind = str(part.get_dtype())
                elements = 1
                for size in part.get_shape():
                    elements *= size
                known = _FLOATS.get(kind) or _ELEMENTS.get(kind)
                if known:
                    counts[known] += elements
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{path} is not a readable safetensors file ({error}).",
            hint="The file is damaged or incomplete: get the checkpoint again.",
        ) from error
    return counts


def _pickle_types(files: list[Path]) -> Counter[str]:
    import pickle
    import zipfile

    import torch

    counts: Counter[str] = Counter()
    for path in files:
        try:
            # weights_only refuses every object but tensors; mmap reads none of their bytes.
            # Files from before torch 1.6 are no archives and cannot be mapped.
            mapped = zipfile.is_zipfile(path)
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            raise SourceError(
                f"{path} holds Python objects besides weights, and unpickling them would run code.",
                hint="Convert it where you trust it: load it there and save it again with"
                " save_pretrained, which writes safetensors.",
            ) from error
        except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
            raise SourceError(
                f"{path} is not a readable PyTorch file ({error}).",
                hint="The file is damaged or incomplete: get the checkpoint again.",
            ) from error
        if not isinstance(state, Mapping):
            raise SourceError(f"{path} holds no state dict.", hint="Save it with save_pretrained.")
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                counts[str(value.dtype).removeprefix("torch.")] += value.numel()
    return counts
