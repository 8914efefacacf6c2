"""sentence-transformers' folders: pooling, dense layers and normalisation as one module.

A folder with `modules.json` lists what follows the transformer. It is rebuilt here, without the
sentence-transformers package, so that the exported graph ends in one embedding per text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.core.errors import SourceError
from edgekit.sources.checks import read_json

EMBEDDING = "sentence_embedding"

_LENGTH_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
_SUPPORTED = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")


def _masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


def _mean_sqrt_length(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9).sqrt()


def _maximum(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask == 0, -1e9).max(1).values


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)[None, :, None]
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    # The last position whose mask is set, wherever the padding stands.
    places = torch.arange(hidden.shape[1], device=hidden.device)[None, :, None]
    last = (places * mask.to(places.dtype)).amax(1, keepdim=True)
    return hidden.gather(1, last.expand(-1, -1, hidden.shape[2])).squeeze(1)


# In the order in which sentence-transformers concatenates several modes; its config keys beside.
_MODES: Mapping[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "cls": ("pooling_mode_cls_token", _first),
    "max": ("pooling_mode_max_tokens", _maximum),
    "mean": ("pooling_mode_mean_tokens", _masked_mean),
    "mean_sqrt_len_tokens": ("pooling_mode_mean_sqrt_len_tokens", _mean_sqrt_length),
    "weightedmean": ("pooling_mode_weightedmean_tokens", _weighted_mean),
    "lasttoken": ("pooling_mode_lasttoken", _last),
}


class Pooling(nn.Module):
    """Token states `[batch, sequence, hidden]` and their mask → `[batch, modes·hidden]`."""

    def __init__(self, modes: Sequence[str]) -> None:
        super().__init__()
        self.modes = tuple(modes)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled states, one block of `hidden` per mode."""
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = [_MODES[mode][1](hidden, mask) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)


class Normalize(nn.Module):
    """`[batch, hidden]` to length 1 in the Euclidean norm."""

    def forward(self, embedding: Tensor) -> Tensor:
        """The normalised embedding."""
        return nn.functional.normalize(embedding, p=2.0, dim=1)


class SentenceEmbedder(nn.Module):
    """A transformer and what its sentence-transformers folder puts behind it."""

    def __init__(self, transformer: nn.Module, pooling: Pooling, rest: nn.Sequential) -> None:
        super().__init__()
        self.model = transformer
        self.pooling = pooling
        self.rest = rest

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """`{"sentence_embedding": [batch, hidden]}` for the tokenizer's tensors."""
        hidden = self.model(**inputs).last_hidden_state
        return {EMBEDDING: self.rest(self.pooling(hidden, inputs["attention_mask"]))}


@dataclass(frozen=True)
class SentenceModules:
    """What a folder's `modules.json` says: where the transformer lies and what follows it."""

    transformer: Path
    modes: tuple[str, ...]
    rest: tuple[tuple[str, Path], ...]
    max_length: int | None
    lowercase: bool

    def wrap(self, transformer: nn.Module) -> SentenceEmbedder:
        """The whole embedder around a loaded transformer, in its dtype."""
        rest = nn.Sequential(*(_BUILDERS[kind](folder) for kind, folder in self.rest))
        dtype = next(transformer.parameters()).dtype
        return SentenceEmbedder(transformer, Pooling(self.modes), rest.to(dtype)).eval()

    def extra_state(self, embedder: SentenceEmbedder) -> dict[str, Tensor]:
        """The weights behind the transformer, under the names of the folder's own files."""
        state: dict[str, Tensor] = {}
        for (_, folder), module in zip(self.rest, embedder.rest, strict=True):
            inner = module[0] if isinstance(module, nn.Sequential) else module
            for name, tensor in inner.state_dict().items():
                state[f"{folder.name}.{name}"] = tensor
        return state


def read_sentence_modules(folder: Path) -> SentenceModules | None:
    """What `modules.json` says, or None in a folder without one.

    Raises SourceError, naming it, for a module or setting that has no counterpart here.
    """
    path = folder / "modules.json"
    if not path.exists():
        return None
    rows = _rows(path)
    kinds = [kind for kind, _ in rows]
    for kind in kinds:
        if kind not in _SUPPORTED:
            raise SourceError(
                f"{path} uses the sentence-transformers module {kind}, which edgekit does not"
                f" have; it has {', '.join(_SUPPORTED)}.",
                hint="Pass --task feature-extraction on the transformer's own folder without"
                " modules.json, or wrap the model in a factory (file.py:factory).",
            )
    if kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Pooling") > 1:
        raise SourceError(
            f"{path} lists {', '.join(kinds)}; edgekit reads a Transformer, a Pooling and what"
            " follows them.",
            hint="Wrap the model in a factory (file.py:factory).",
        )
    _refuse_prompt(folder)
    transformer = folder / rows[0][1]
    settings = _settings(transformer)
    length = settings.get("max_seq_length")
    return SentenceModules(
        transformer=transformer,
        modes=_pooling_modes(folder / rows[1][1] / "config.json"),
        rest=tuple((kind, folder / where) for kind, where in rows[2:]),
        max_length=length if isinstance(length, int) else None,
        lowercase=settings.get("do_lower_case") is True,
    )


def module_folders(folder: Path) -> tuple[Path, ...]:
    """The folders of the modules that `modules.json` lists, the transformer's first; maybe none.

    Raises SourceError for a list that cannot be read or points outside.
    """
    path = folder / "modules.json"
    return tuple(folder / where for _, where in _rows(path)) if path.exists() else ()


def _rows(path: Path) -> list[tuple[str, str]]:
    import json

    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        ordered = sorted(listed, key=lambda row: int(row["idx"]))
        rows = [(str(row["type"]).rpartition(".")[2], str(row["path"])) for row in ordered]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is not a list of sentence-transformers modules ({error!r}).",
            hint="Get the checkpoint again.",
        ) from error
    for _, where in rows:
        if where.startswith("/") or ".." in Path(where).parts:
            raise SourceError(f"{path} points outside of its folder with {where!r}.")
    return rows


def _settings(transformer: Path) -> dict[str, object]:
    for name in _LENGTH_FILES:
        if (transformer / name).exists():
            return read_json(transformer / name)
    return {}


def _refuse_prompt(folder: Path) -> None:
    path = folder / "config_sentence_transformers.json"
    settings = read_json(path) if path.exists() else {}
    default = settings.get("default_prompt_name")
    if default:
        raise SourceError(
            f"{path} prepends the prompt {default!r} to every text, which a bundle does not do.",
            hint='Set "default_prompt_name" to null there and prepend the prompt in your app.',
        )


def _pooling_modes(path: Path) -> tuple[str, ...]:
    settings = read_json(path)
    if settings.get("include_prompt") is False:
        raise SourceError(
            f"{path} leaves prompts out of the pooling, which a bundle cannot do.",
            hint='Set "include_prompt" to true if no prompt is used.',
        )
    if "pooling_mode" in settings:
        given = settings["pooling_mode"]
        names = given if isinstance(given, list) else str(given).split("+")
        modes = [str(name) for name in names]
    else:
        chosen = {
            key for key, value in settings.items() if key.startswith("pooling_mode_") and value
        }
        modes = [mode for mode, (key, _) in _MODES.items() if key in chosen]
        modes += sorted(chosen - {key for key, _ in _MODES.values()})
    unknown = [mode for mode in modes if mode not in _MODES]
    if unknown or not modes:
        raise SourceError(
            f"{path} asks for the pooling {', '.join(unknown) or 'none'}; edgekit has"
            f" {', '.join(_MODES)}.",
            hint="Wrap the model in a factory (file.py:factory).",
        )
    return tuple(modes)


_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "Tanh": nn.Tanh,
    "Identity": nn.Identity,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "Sigmoid": nn.Sigmoid,
    "SiLU": nn.SiLU,
    "Softmax": lambda: nn.Softmax(dim=-1),
}


def _dense(folder: Path) -> nn.Module:
    settings = read_json(folder / "config.json")
    name = str(settings.get("activation_function", "Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise SourceError(
            f"{folder / 'config.json'} uses the activation {name}, which edgekit does not have;"
            f" it has {', '.join(_ACTIVATIONS)}.",
            hint="Wrap the model in a factory (file.py:factory).",
        )
    weights = _weights(folder)
    matrix = weights["linear.weight"]
    linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias="linear.bias" in weights)
    linear.load_state_dict({key.partition(".")[2]: value for key, value in weights.items()})
    return nn.Sequential(linear, _ACTIVATIONS[name]())


def _layer_norm(folder: Path) -> nn.Module:
    weights = _weights(folder)
    norm = nn.LayerNorm(weights["norm.weight"].shape[0])
    norm.load_state_dict({key.partition(".")[2]: value for key, value in weights.items()})
    return norm


def _weights(folder: Path) -> dict[str, Tensor]:
    from edgekit.sources.checks import check_weights

    check_weights(folder)
    safe = folder / "model.safetensors"
    if safe.exists():
        from safetensors.torch import load_file

        return load_file(safe)
    loaded: dict[str, Tensor] = torch.load(
        folder / "pytorch_model.bin", map_location="cpu", weights_only=True
    )
    return loaded


_BUILDERS: Mapping[str, Callable[[Path], nn.Module]] = {
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": lambda folder: Normalize(),
    "Dropout": lambda folder: nn.Identity(),
}
