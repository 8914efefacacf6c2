"""Tiny random models, built by name and saved as Hugging Face folders, and small plain modules.

`save_model("bert", "text-classification", folder)` writes config, weights and a tokenizer that was
trained here on a few lines of text, so that every test runs offline. The weights are random: such
models prove numerics, never accuracy. The factories at the end are what `file.py:factory` names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from torch import Tensor, nn

ARCHITECTURES = ("bert", "distilbert", "roberta", "deberta-v2", "modernbert", "albert", "mpnet")
TEXT_TASKS = (
    "feature-extraction",
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
)
MODULES = ("linear_regression", "cnn", "lstm", "gru")

# The longest input of the tiny models, so that "the longest the model takes" stays cheap.
MAX_LENGTH = 64

CORPUS = (
    "The quick brown fox jumps over the lazy dog, again and again.",
    "A great film: funny, warm and far too short!",
    "I would not watch this movie twice, the plot makes no sense.",
    "Where does the river flow? It flows to the sea, says the old map.",
    "Edge devices run small models with little memory and no network.",
    "Der schnelle Fuchs springt über den faulen Hund. Schöne Grüße aus Köln!",
    "Le café est déjà fermé, mais la crème brûlée était délicieuse.",
    "El niño pequeño comió una manzana mañana por la mañana.",
    "Быстрая лиса прыгает через ленивую собаку, и это не первый раз.",
    "Η γρήγορη αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "الثعلب السريع يقفز فوق الكلب الكسول",
    "השועל המהיר קופץ מעל הכלב העצלן",
    "तेज़ लोमड़ी आलसी कुत्ते के ऊपर कूदती है",
    "敏捷的棕色狐狸跳过懒狗。今天天气很好。",
    "素早い茶色の狐はのろまな犬を飛び越える。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "Numbers 0 1 2 3 4 5 6 7 8 9, signs ( ) [ ] { } + - * / = % & # @ _ ~ ^ | < > ; : \" '",
    "😀 emoji 🎉 are part of text 👩‍👩‍👧 too",
)


def _wordpiece(specials: Mapping[str, str]) -> dict[str, int]:
    tokenizer = Tokenizer(WordPiece(unk_token=specials["unk"]))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=600, special_tokens=list(dict.fromkeys(specials.values())), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))


def _byte_bpe(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _unigram(specials: list[str], unknown: str) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    trainer = UnigramTrainer(
        vocab_size=600, special_tokens=specials, unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    # The vocabulary is read through its JSON because Unigram shows no scores in Python.
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(str(piece), float(score)) for piece, score in pieces]


def tokenizer_for(architecture: str, max_length: int = MAX_LENGTH) -> Any:
    """A transformers tokenizer of the architecture's own class, trained on CORPUS."""
    import transformers

    if architecture in ("bert", "distilbert"):
        specials = {
            "pad": "[PAD]",
            "unk": "[UNK]",
            "cls": "[CLS]",
            "sep": "[SEP]",
            "mask": "[MASK]",
        }
        names = None if architecture == "bert" else ["input_ids", "attention_mask"]
        extra = {} if names is None else {"model_input_names": names}
        return transformers.BertTokenizer(
            vocab=_wordpiece(specials), model_max_length=max_length, **extra
        )
    if architecture == "mpnet":
        specials = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"}
        return transformers.MPNetTokenizer(vocab=_wordpiece(specials), model_max_length=max_length)
    if architecture == "roberta":
        trained = _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        merges = _merges(trained)
        return transformers.RobertaTokenizer(
            vocab=trained.get_vocab(), merges=merges, model_max_length=max_length
        )
    if architecture == "modernbert":
        return _modernbert_tokenizer(max_length)
    if architecture == "albert":
        pieces = _unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>")
        return transformers.AlbertTokenizer(vocab=pieces, model_max_length=max_length)
    if architecture == "deberta-v2":
        pieces = _unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[UNK]")
        return transformers.DebertaV2Tokenizer(vocab=pieces, unk_id=3, model_max_length=max_length)
    raise KeyError(architecture)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def _modernbert_tokenizer(max_length: int) -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = _byte_bpe(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _config(architecture: str, tokenizer: Any, max_length: int, sizes: Mapping[str, int]) -> Any:
    import transformers

    hidden, layers, heads = sizes["hidden"], sizes["layers"], sizes["heads"]
    vocabulary = len(tokenizer)
    common: dict[str, object] = {
        "vocab_size": vocabulary,
        "pad_token_id": tokenizer.pad_token_id,
        # Wider than the usual .02, so that two layers make visibly different answers.
        "initializer_range": 0.85 / hidden**0.5,
    }
    shape = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
    }
    if architecture == "bert":
        return transformers.BertConfig(**common, **shape, max_position_embeddings=max_length)
    if architecture == "distilbert":
        return transformers.DistilBertConfig(
            **common,
            dim=hidden,
            n_layers=layers,
            n_heads=heads,
            hidden_dim=2 * hidden,
            max_position_embeddings=max_length,
        )
    if architecture == "roberta":
        # RoBERTa's positions start behind the padding index: two rows are never a position.
        return transformers.RobertaConfig(
            **common, **shape, max_position_embeddings=max_length + 2, type_vocab_size=1
        )
    if architecture == "mpnet":
        return transformers.MPNetConfig(**common, **shape, max_position_embeddings=max_length + 2)
    if architecture == "albert":
        return transformers.AlbertConfig(
            **common, **shape, embedding_size=16, max_position_embeddings=max_length
        )
    if architecture == "deberta-v2":
        return transformers.DebertaV2Config(
            **common,
            **shape,
            max_position_embeddings=max_length,
            relative_attention=True,
            position_buckets=16,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            type_vocab_size=0,
            position_biased_input=False,
        )
    if architecture == "modernbert":
        return transformers.ModernBertConfig(
            **common,
            **shape,
            max_position_embeddings=max_length,
            local_attention=16,
            global_attn_every_n_layers=2,
            cls_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    raise KeyError(architecture)


_AUTO = {
    "feature-extraction": "AutoModel",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
}


def save_model(
    architecture: str,
    task: str,
    folder: Path,
    *,
    max_length: int = MAX_LENGTH,
    labels: tuple[str, ...] = ("negative", "neutral", "positive"),
    problem_type: str | None = None,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    safe: bool = True,
) -> Path:
    """Write a random model with its tokenizer into `folder` and return the folder.

    `labels` and `problem_type` are for the two classification tasks; `safe=False` writes a
    `pytorch_model.bin` pickle instead of safetensors.
    """
    import transformers

    tokenizer = tokenizer_for(architecture, max_length)
    sizes = {"hidden": hidden, "layers": layers, "heads": heads}
    config = _config(architecture, tokenizer, max_length, sizes)
    if task in ("text-classification", "token-classification"):
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        config.problem_type = problem_type
    torch.manual_seed(seed)
    model = getattr(transformers, _AUTO[task]).from_config(config).eval()
    # Biases and norms start at 0 and 1; shifting them shows a part that the export forgets.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "orm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not safe:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def add_sentence_transformer(
    folder: Path,
    *,
    mode: str = "mean",
    normalize: bool = True,
    max_length: int | None = None,
    hidden: int = 32,
    modern: bool = False,
) -> Path:
    """Add sentence-transformers' files (`modules.json`, pooling, normalisation) to a model folder.

    `modern=True` writes the pooling config of sentence-transformers 5, one `pooling_mode` string.
    """
    rows = [("", "Transformer"), ("1_Pooling", "Pooling")]
    rows += [("2_Normalize", "Normalize")] if normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(rows)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    keys = {
        "cls": "pooling_mode_cls_token",
        "mean": "pooling_mode_mean_tokens",
        "max": "pooling_mode_max_tokens",
        "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
        "weightedmean": "pooling_mode_weightedmean_tokens",
        "lasttoken": "pooling_mode_lasttoken",
    }
    pooling: dict[str, object] = {"word_embedding_dimension": hidden}
    if modern:
        pooling["pooling_mode"] = mode
    else:
        pooling |= {key: name == mode for name, key in keys.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if max_length is not None:
        (folder / "sentence_bert_config.json").write_text(
            json.dumps({"max_seq_length": max_length, "do_lower_case": False})
        )
    return folder


class LinearRegression(nn.Module):
    """y = Wx + b on `[batch, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The prediction, `[batch, 1]`."""
        y: Tensor = self.linear(x)
        return y


class Cnn(nn.Module):
    """Two convolutions with batch norm, pooling and a head on `[batch, 1, 28, 28]`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """The class scores, `{"logits": [batch, 10]}`."""
        return {"logits": self.head(self.features(image).flatten(1))}


class Lstm(nn.Module):
    """An LSTM that takes its state and gives it back, so that a stream can be cut anywhere."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, num_layers=layers, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> dict[str, Tensor]:
        """Scores `[batch, sequence, 3]` and the next state `hn`, `cn`, `[layers, batch, 16]`."""
        y, (hn, cn) = self.lstm(x, (h0, c0))
        return {"scores": self.head(y), "hn": hn, "cn": cn}


class Gru(nn.Module):
    """A GRU in both directions with its state in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        """The states `[batch, sequence, 32]` and the last one `[2, batch, 16]`."""
        y, hn = self.gru(x, h0)
        return y, hn


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


def linear_regression() -> nn.Module:
    """A factory that returns the bare module."""
    return _seeded(LinearRegression)


def cnn() -> nn.Module:
    """A factory that returns the bare module."""
    return _seeded(Cnn)


def lstm() -> nn.Module:
    """A factory that returns the bare module."""
    return _seeded(Lstm)


def gru() -> nn.Module:
    """A factory that returns the bare module."""
    return _seeded(Gru)


def cnn_with_samples() -> tuple[nn.Module, dict[str, Tensor]]:
    """A factory that returns the module and a sample batch of two."""
    module = _seeded(Cnn)
    return module, {"image": torch.rand(2, 1, 28, 28)}


# `--input` declarations that fit the factories above.
MODULE_INPUTS: Mapping[str, tuple[str, ...]] = {
    "linear_regression": ("x=float32:batch,10",),
    "cnn": ("image=float32:batch,1,28,28",),
    "lstm": (
        "x=float32:batch,sequence,8",
        "h0=float32:2,batch,16",
        "c0=float32:2,batch,16",
    ),
    "gru": ("x=float32:batch,sequence,8", "h0=float32:2,batch,16"),
}
