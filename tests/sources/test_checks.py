"""Checkpoint folders that are refused, each with its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekit.core.errors import SourceError
from edgekit.sources.checks import check_weights
from edgekit.sources.opening import open_source


def _change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _garble(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])


def _shard(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    half = len(names) // 2
    parts = {"model-00001-of-00002.safetensors": names[:half]}
    parts["model-00002-of-00002.safetensors"] = names[half:]
    save_file({n: state[n] for n in names[:half]}, folder / "model-00001-of-00002.safetensors")
    weight_map = {name: part for part, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Path("/somewhere")}, folder / "pytorch_model.bin")


def _broken_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 and nothing more")


def _only_foreign(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


def _vocabulary(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = tokenizer["model"]["vocab"]
    words |= {f"extra{index}": len(words) + index for index in range(5)}
    path.write_text(json.dumps(tokenizer))


def _no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def _remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _make_bundle(folder: Path) -> None:
    (folder / "edgekit.json").write_text("{}")
    _remove_config(folder)


def _remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no config": (_remove_config, "has no config.json", "save_pretrained"),
    "bundle": (_make_bundle, "is a bundle, not a PyTorch model", "exported from"),
    "config is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "not readable JSON",
        "again",
    ),
    "adapter": (_adapter, "PEFT adapter for base", "merge_and_unload"),
    "gptq": (
        lambda folder: _change_config(folder, quantization_config={"quant_method": "gptq"}),
        r"quantized already \(gptq\)",
        "original float checkpoint",
    ),
    "bitsandbytes": (
        lambda folder: _change_config(folder, quantization_config={"load_in_8bit": True}),
        r"quantized already \(load_in_8bit\)",
        "original float checkpoint",
    ),
    "awq": (
        lambda folder: (folder / "quant_config.json").write_text("{}"),
        r"quantized already \(awq\)",
        "original float checkpoint",
    ),
    "truncated weights": (_truncate, "not a readable safetensors file", "damaged"),
    "garbled weights": (_garble, "not a readable safetensors file", "damaged"),
    "missing shard": (_shard, "1 of 2 weight files are missing", "completely"),
    "no weights": (_remove_weights, "holds no weights", "completely"),
    "other framework": (_only_foreign, "only model.gguf", "gguf_file"),
    "unsafe pickle": (_pickle, "unpickling them would run code", "safetensors"),
    "broken pickle": (_broken_pickle, "not a readable PyTorch file", "damaged"),
    "custom code": (
        lambda folder: _change_config(
            folder, architectures=["OwnModel"], auto_map={"AutoModel": "own.OwnModel"}
        ),
        "needs Python code of its own",
        "--trust-remote-code",
    ),
    "unknown model type": (
        lambda folder: _change_config(folder, model_type="never-heard-of"),
        "transformers could not load",
        "transformers 5",
    ),
    "larger vocabulary": (_vocabulary, "knows 605 tokens, the model only 600", "resize"),
    "no tokenizer": (_no_tokenizer, "holds no tokenizer", "tokenizer.save_pretrained"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_checkpoint_is_refused_with_a_remedy(case: str, checkpoint: Path) -> None:
    """The error says what is wrong and what to do; nothing is loaded half."""
    spoil, message, remedy = CASES[case]
    spoil(checkpoint)
    with pytest.raises(SourceError, match=message) as caught:
        open_source(str(checkpoint), task="text-classification")
    assert remedy in str(caught.value.hint)


def test_weights_of_the_wrong_shape_are_refused(checkpoint: Path) -> None:
    """A config of another size than the weights is told, not patched over with random weights."""
    _change_config(checkpoint, intermediate_size=48)
    with pytest.raises(SourceError) as caught:
        open_source(str(checkpoint))
    assert str(checkpoint) in caught.value.message


def test_stored_dtype_is_that_of_most_weights(tmp_path: Path) -> None:
    """Counters and a few float32 scales do not decide."""
    save_file(
        {
            "w": torch.zeros(100, dtype=torch.bfloat16),
            "scale": torch.zeros(3),
            "ids": torch.arange(1000),
        },
        tmp_path / "model.safetensors",
    )
    assert check_weights(tmp_path) == "bfloat16"


def test_pickle_of_old_torch_is_read(tmp_path: Path) -> None:
    """Files from before torch 1.6 are no zip archives and still hold weights only."""
    torch.save(
        {"w": torch.zeros(4, dtype=torch.float16)},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=False,
    )
    assert check_weights(tmp_path) == "float16"
