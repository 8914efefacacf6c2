"""Tiny random models of sounds, built by family and saved as Hugging Face folders.

The weights are random: such models prove numerics, never accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

LABELS = {0: "yes", 1: "no", 2: "up", 3: "down", 4: "stop"}
TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUCMWFGYPBVKXJQZ'")
CLASSES = "audio-classification"
SPEECH = "automatic-speech-recognition"
# Three convolutions instead of seven: tiny models hear short sounds, in frames of 160 samples.
WAVES: Mapping[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (10, 4, 4),
    "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2, "id2label": LABELS, "vocab_size": len(TOKENS),
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """The task of a family, its config, model class and feature extractor."""

    task: str
    config: Callable[[], Any]
    model: str
    extractor: Callable[[], Any]


def _waves(kind: str, *, layer: bool) -> Callable[[], Any]:
    """A config of Wav2Vec2's kin; those that normalise by layers are trained with a mask."""
    return lambda: getattr(transformers, kind)(
        **WAVES, feat_extract_norm="layer" if layer else "group", do_stable_layer_norm=layer,
        conv_bias=layer,
    )  # fmt: skip


def _extractor(*, mask: bool) -> Callable[[], Any]:
    return lambda: transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask)


def _ast() -> Any:
    return transformers.ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        patch_size=8, frequency_stride=8, time_stride=8, max_length=64, num_mel_bins=32,
        id2label=LABELS,
    )  # fmt: skip


def _whisper() -> Any:
    return transformers.WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=64, num_mel_bins=40,
        max_source_positions=100, classifier_proj_size=16, id2label=LABELS,
    )  # fmt: skip


FAMILIES: Mapping[str, Family] = {
    "wav2vec2": Family(
        CLASSES, _waves("Wav2Vec2Config", layer=False), "Wav2Vec2ForSequenceClassification",
        _extractor(mask=False),
    ),
    "wav2vec2-masked": Family(
        CLASSES, _waves("Wav2Vec2Config", layer=True), "Wav2Vec2ForSequenceClassification",
        _extractor(mask=True),
    ),
    "wav2vec2-ctc": Family(
        SPEECH, _waves("Wav2Vec2Config", layer=False), "Wav2Vec2ForCTC", _extractor(mask=False)
    ),
    "wav2vec2-ctc-masked": Family(
        SPEECH, _waves("Wav2Vec2Config", layer=True), "Wav2Vec2ForCTC", _extractor(mask=True)
    ),
    "hubert": Family(
        CLASSES, _waves("HubertConfig", layer=False), "HubertForSequenceClassification",
        _extractor(mask=False),
    ),
    "hubert-ctc": Family(
        SPEECH, _waves("HubertConfig", layer=True), "HubertForCTC", _extractor(mask=True)
    ),
    "wavlm": Family(
        CLASSES, _waves("WavLMConfig", layer=False), "WavLMForSequenceClassification",
        _extractor(mask=False),
    ),
    "wavlm-ctc": Family(
        SPEECH, _waves("WavLMConfig", layer=True), "WavLMForCTC", _extractor(mask=True)
    ),
    "ast": Family(
        CLASSES, _ast, "ASTForAudioClassification",
        lambda: transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64),
    ),
    "whisper": Family(
        CLASSES, _whisper, "WhisperForAudioClassification",
        lambda: transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=2),
    ),
}  # fmt: skip


def save_sound_model(family: str, folder: Path) -> Path:
    """Write config, random weights, feature extractor (and CTC's tokenizer) of a family."""
    chosen = FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(transformers, chosen.model)(chosen.config()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Wider than what training starts from: answers to different sounds should differ.
            if parameter.dim() > 1 and "pos_conv" not in name:
                parameter.mul_(3)
    model.save_pretrained(folder)
    chosen.extractor().save_pretrained(folder)
    if chosen.task == SPEECH:
        tokenizer(folder).save_pretrained(folder)
    return folder


def tokenizer(folder: Path, **options: Any) -> Any:
    """A tokenizer of letters, whose vocabulary is written into a folder."""
    file = folder / "vocab.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({token: index for index, token in enumerate(TOKENS)}))
    return transformers.Wav2Vec2CTCTokenizer(str(file), **options)
