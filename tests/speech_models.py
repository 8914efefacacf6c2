"""Tiny random models of Whisper's kind, in windows of two seconds, saved as Hugging Face folders.

The weights are random: such models prove numerics, never accuracy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from tests.models import CORPUS

FAMILY = "whisper"
KINDS = ("multilingual", "english")
#: Marks of time of a window of two seconds.
POSITIONS = 100
CONTEXT = 96
LANGUAGES = ("en", "de", "fr", "ja")
_END = "<|endoftext|>"


def save_speech_model(kind: str, folder: Path, *, layers: int = 2) -> Path:
    """Write config, random weights, generation settings, extractor and tokenizer of a kind.

    `layers` are those of the encoder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(folder)
    end, start = ids[_END], ids["<|startoftranscript|>"]
    config = transformers.WhisperConfig(
        vocab_size=max(ids.values()) + 1, d_model=32, encoder_layers=layers,
        encoder_attention_heads=2, encoder_ffn_dim=64, decoder_layers=2,
        decoder_attention_heads=2, decoder_ffn_dim=64, num_mel_bins=40,
        max_source_positions=POSITIONS, max_target_positions=CONTEXT, bos_token_id=end,
        eos_token_id=end, pad_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    torch.manual_seed(3)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Wider than what training starts from: answers to different sounds should differ.
            if parameter.dim() > 1:
                parameter.mul_(5)
    said: dict[str, Any] = {
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
        "decoder_start_token_id": start, "max_length": CONTEXT,
        "no_timestamps_token_id": ids["<|notimestamps|>"], "max_initial_timestamp_index": 50,
        "prev_sot_token_id": ids["<|startofprev|>"], "is_multilingual": kind == "multilingual",
        "suppress_tokens": [1, 2, 7, start, ids["<|startofprev|>"]],
        "begin_suppress_tokens": [20, end], "return_timestamps": False,
    }  # fmt: skip
    if kind == "multilingual":
        said["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES}
        said["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.generation_config = transformers.GenerationConfig(**said)
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=2).save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """The ids of the tokens that are no text: they stand behind all others, as in Whisper's."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    words = [_END, "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
    words += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>"]
    words += ["<|nospeech|>", "<|notimestamps|>"]
    backend.add_special_tokens(words)
    backend.add_tokens([f"<|{at * 0.02:.2f}|>" for at in range(POSITIONS + 1)])
    backend.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": words[1:],
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), _END),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    first = backend.token_to_id(_END)
    count = backend.get_vocab_size()
    return {str(backend.id_to_token(number)): number for number in range(first, count)}
