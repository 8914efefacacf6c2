"""The declarative processor of a bundle, and `tokenizer.json` without settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import ExportError
from edgekit.sources.loaded import LoadedSource
from edgekit.sources.pooling import EMBEDDING
from edgekit.sources.towers import TEXT_EMBEDS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

TOKENIZER_FILE = "tokenizer.json"

Post = dict[str, object]

# What transformers 4.57's question-answering pipeline does by default; 5.x has none.
_QA_LENGTH = 384
_QA_STRIDE = 128
_QA_ANSWER = 15


def build_processor(source: LoadedSource, inputs: Sequence[str], length: int) -> dict[str, object]:
    """What the runtime needs to turn texts into the graph's `inputs` and outputs into answers.

    `length` is the most tokens a text may have, special tokens included.
    """
    tokenizer = source.tokenizer
    assert tokenizer is not None
    post = _POST[source.task](source, tokenizer, length)
    windows = source.task == "question-answering"
    # Only the context is cut into windows; transformers puts it last unless it pads on the left.
    pairwise = "only_second" if tokenizer.padding_side == "right" else "only_first"
    return {
        "kind": "text",
        "tokenizer": TOKENIZER_FILE,
        "max_length": length,
        "truncation": {
            "strategy": pairwise if windows else "longest_first",
            "side": tokenizer.truncation_side,
            "stride": post["doc_stride"] if windows else 0,
        },
        "padding": {
            "side": tokenizer.padding_side,
            "token": str(tokenizer.pad_token),
            "id": tokenizer.pad_token_id,
            "type_id": tokenizer.pad_token_type_id,
        },
        "inputs": list(inputs),
        "post": post,
    }


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Write the tokenizer as transformers uses it, without truncation and padding of its own.

    Slow tokenizers are converted. Raises ExportError for one that `tokenizers` cannot express.
    """
    from tokenizers import Tokenizer

    # A copy: the settings of the one transformers holds stay as they are.
    backend = Tokenizer.from_str(_backend(tokenizer).to_str())
    # Files saved after a training run often cut at 128 and pad to 128 whatever the model takes.
    backend.no_truncation()
    backend.no_padding()
    backend.save(str(path))


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return backend
    from transformers.convert_slow_tokenizer import convert_slow_tokenizer

    try:
        converted: Tokenizer = convert_slow_tokenizer(tokenizer)
        # Conversion takes the vocabulary; what is cut out of a text whole comes on top of it.
        for _, token in sorted(tokenizer.added_tokens_decoder.items()):
            (converted.add_special_tokens if token.special else converted.add_tokens)([token])
    except Exception as error:
        raise ExportError(
            f"The tokenizer {type(tokenizer).__name__} exists in Python only and cannot be"
            f" converted to tokenizer.json: {error}",
            hint="Save a fast version of it (a tokenizer.json) into the model's folder.",
        ) from error
    return converted


def activation(config: PreTrainedConfig) -> str:
    """What transformers' pipeline applies to the scores: softmax, sigmoid or none."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return "none"
    if problem == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def _features(source: LoadedSource, tokenizer: PreTrainedTokenizerBase, length: int) -> Post:
    pooled = {EMBEDDING, TEXT_EMBEDS} & set(source.output_axes)
    return {"kind": "embedding" if pooled else "hidden-states"}


def _classification(source: LoadedSource, tokenizer: PreTrainedTokenizerBase, length: int) -> Post:
    assert source.config is not None
    return {"kind": "classification", "activation": activation(source.config), "top_k": 1}


def _tokens(source: LoadedSource, tokenizer: PreTrainedTokenizerBase, length: int) -> Post:
    post: Post = {"kind": "token-classification", "aggregation": "none", "ignore_labels": ["O"]}
    if tokenizer.unk_token_id is not None:
        post["unk_token_id"] = tokenizer.unk_token_id
    return post


def _answers(source: LoadedSource, tokenizer: PreTrainedTokenizerBase, length: int) -> Post:
    longest = min(length, _QA_LENGTH)
    post: Post = {
        "kind": "question-answering",
        "max_answer_length": _QA_ANSWER,
        "max_sequence_length": longest,
        "doc_stride": min(longest // 2, _QA_STRIDE),
        "handle_impossible_answer": False,
        "top_k": 1,
    }
    if tokenizer.cls_token_id is not None:
        post["cls_token_id"] = tokenizer.cls_token_id
    return post


def _masks(source: LoadedSource, tokenizer: PreTrainedTokenizerBase, length: int) -> Post:
    return {
        "kind": "fill-mask",
        "top_k": 5,
        "mask_token_id": tokenizer.mask_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "clean_up_tokenization_spaces": bool(tokenizer.clean_up_tokenization_spaces),
    }


_POST: Mapping[str, Callable[[LoadedSource, PreTrainedTokenizerBase, int], Post]] = {
    "feature-extraction": _features,
    "text-classification": _classification,
    "token-classification": _tokens,
    "question-answering": _answers,
    "fill-mask": _masks,
}
