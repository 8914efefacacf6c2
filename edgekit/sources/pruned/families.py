"""Where the heads, neurons and layers of a family of transformers are: one record each.

transformers 5 has no way of its own to remove heads. What a cut needs to know of a family is which
linear layers hold one slice per head or neuron, and which attributes count them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgekit.core.errors import PruneError


@dataclass(frozen=True)
class Family:
    """How the modules of a family are called, and how they are put together.

    ``layers`` is the path of the list of layers below the base model; the other paths start at a
    layer. ``projections`` make queries, keys and values, `fused` of them in one linear layer;
    those in ``optional`` may be missing. ``out`` brings the heads together. ``ups`` lead into the
    feed-forward block (`gated`: two of them fused in one), ``down`` out of it.
    ``head_size`` is an attribute of ``attention``, as are ``counts`` (of heads) and ``widths``
    (heads times their size), which a forward reads. ``post_norm`` says that a sum of the residual
    stream is normalised before the next block reads it, for the last sum of a layer by ``norm``.
    ``normed_out``: what ``out`` and ``down`` give is normalised before it is added.
    ``head_bias`` is the place among the arguments of ``attention`` of a tensor with one slice per
    head, made once for all layers.
    ``config_ffn`` is the name of the width of the feed-forward block in the config,
    ``config_heads`` are those of the numbers of heads, of all and of keys, where the config says
    their size by itself. What is not ``described`` has no words of its own in the config.
    ``first_differs``: the config builds the first layer otherwise than the rest. ``behind_first``
    is the path, below the base model, of what may stand between the first and the second,
    ``placed`` a switch of the config by which a layer computes with its own number.
    ``handed_bias`` is the place, among the arguments of a layer, of a tensor with one slice per
    head that the first layer makes and every layer hands on.
    ``causal`` families are pruned as models that generate texts, and as nothing else; those of
    an encoder, whose decoder stays whole, for one task: ``answers``.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    attention: str
    projections: tuple[str, ...]
    out: str
    ups: tuple[str, ...]
    down: str
    head_size: str
    post_norm: bool
    norm: str | None = None
    fused: int = 1
    gated: int = 1
    optional: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    widths: tuple[str, ...] = ()
    config_ffn: str = "intermediate_size"
    head_bias: int | None = None
    first_differs: bool = False
    behind_first: str | None = None
    config_heads: tuple[str, str] | None = None
    normed_out: bool = False
    placed: str | None = None
    causal: bool = False
    answers: str | None = None
    handed_bias: int | None = None
    described: bool = True


_BERT_LIKE = ("attention.self.query", "attention.self.key", "attention.self.value")
_SPLIT = ("q_proj", "k_proj", "v_proj")
_GATED = ("mlp.gate_proj", "mlp.up_proj")
_COUNTED = ("num_attention_heads", "num_key_value_heads")
# Of T5, the second and third where it is gated.
_ONE_OR_TWO = tuple(f"layer.1.DenseReluDense.{name}" for name in ("wi", "wi_0", "wi_1"))

_TEXTS, _SPEECH = "text2text-generation", "automatic-speech-recognition"

_LLAMA = Family(
    "Llama, Mistral and Qwen",
    ("llama", "mistral", "qwen2", "qwen3"),
    layers="layers",
    attention="self_attn",
    projections=tuple(f"self_attn.{name}" for name in _SPLIT),
    out="self_attn.o_proj",
    ups=_GATED,
    down="mlp.down_proj",
    head_size="head_dim",
    config_heads=_COUNTED,
    post_norm=False,
    causal=True,
)

_BART = Family(
    "BART and Marian",
    ("bart", "marian"),
    layers="encoder.layers",
    attention="self_attn",
    projections=tuple(f"self_attn.{name}" for name in _SPLIT),
    out="self_attn.out_proj",
    ups=("fc1",),
    down="fc2",
    head_size="head_dim",
    counts=("num_heads",),
    config_ffn="encoder_ffn_dim",
    post_norm=True,
    norm="final_layer_norm",
    answers=_TEXTS,
)

FAMILIES = (
    Family(
        "BERT and RoBERTa",
        ("bert", "roberta", "xlm-roberta", "camembert", "electra"),
        layers="encoder.layer",
        attention="attention.self",
        projections=_BERT_LIKE,
        out="attention.output.dense",
        ups=("intermediate.dense",),
        down="output.dense",
        head_size="attention_head_size",
        counts=("num_attention_heads",),
        widths=("all_head_size",),
        post_norm=True,
        norm="output.LayerNorm",
    ),
    Family(
        "DistilBERT",
        ("distilbert",),
        layers="transformer.layer",
        attention="attention",
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        ups=("ffn.lin1",),
        down="ffn.lin2",
        head_size="attention_head_size",
        counts=("n_heads",),
        widths=("dim",),
        config_ffn="hidden_dim",
        post_norm=True,
        norm="output_layer_norm",
    ),
    Family(
        "DeBERTa-v2",
        ("deberta-v2",),
        layers="encoder.layer",
        attention="attention.self",
        projections=(
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
            "attention.self.pos_key_proj",
            "attention.self.pos_query_proj",
        ),
        optional=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        out="attention.output.dense",
        ups=("intermediate.dense",),
        down="output.dense",
        head_size="attention_head_size",
        counts=("num_attention_heads",),
        widths=("all_head_size",),
        post_norm=True,
        norm="output.LayerNorm",
        behind_first="encoder.conv",
    ),
    Family(
        "MPNet",
        ("mpnet",),
        layers="encoder.layer",
        attention="attention.attn",
        projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        ups=("intermediate.dense",),
        down="output.dense",
        head_size="attention_head_size",
        counts=("num_attention_heads",),
        widths=("all_head_size",),
        head_bias=2,
        post_norm=True,
        norm="output.LayerNorm",
    ),
    Family(
        "ModernBERT",
        ("modernbert",),
        layers="layers",
        attention="attn",
        projections=("attn.Wqkv",),
        fused=3,
        out="attn.Wo",
        ups=("mlp.Wi",),
        gated=2,
        down="mlp.Wo",
        head_size="head_dim",
        post_norm=False,
        first_differs=True,
    ),
    Family(
        "ViT and DeiT",
        ("vit", "deit"),
        layers="layers",
        attention="attention",
        projections=tuple(f"attention.{name}" for name in _SPLIT),
        out="attention.o_proj",
        ups=("mlp.fc1",),
        down="mlp.fc2",
        head_size="head_dim",
        counts=("num_attention_heads",),
        post_norm=False,
    ),
    Family(
        "GPT-2",
        ("gpt2",),
        layers="h",
        attention="attn",
        projections=("attn.c_attn",),
        fused=3,
        out="attn.c_proj",
        ups=("mlp.c_fc",),
        down="mlp.c_proj",
        head_size="head_dim",
        counts=("num_heads",),
        widths=("split_size",),
        config_ffn="n_inner",
        post_norm=False,
        placed="scale_attn_by_inverse_layer_idx",
        causal=True,
    ),
    _LLAMA,
    replace(_LLAMA, name="Gemma 3", model_types=("gemma3_text",), normed_out=True),
    Family(
        "T5",
        ("t5",),
        layers="encoder.block",
        attention="layer.0.SelfAttention",
        projections=tuple(f"layer.0.SelfAttention.{name}" for name in ("q", "k", "v")),
        out="layer.0.SelfAttention.o",
        ups=_ONE_OR_TWO,
        optional=_ONE_OR_TWO,
        down="layer.1.DenseReluDense.wo",
        head_size="key_value_proj_dim",
        counts=("n_heads",),
        widths=("inner_dim",),
        # One word says the widths of both stacks, and transformers' `generate` gives the decoder a
        # cache of as many layers as the config says of the encoder.
        described=False,
        handed_bias=2,
        post_norm=False,
        answers=_TEXTS,
    ),
    _BART,
    replace(
        _BART, name="Whisper", model_types=("whisper",), post_norm=False, norm=None, answers=_SPEECH
    ),
)

_TOWERS = "its towers share one space of embeddings, which one plan does not describe"
_STAGES = "its stages have different widths and windows, and merge between them"
_EXTRACTOR = "a convolutional feature extractor with its own lengths stands before the layers"
# Families that edgekit exports and does not prune, by model type, and why.
SKIPPED: Mapping[str, str] = {
    "albert": "all its layers share one set of weights, so that no layer can be cut by itself",
    "swin": _STAGES,
    "segformer": _STAGES,
    "detr": "a decoder with cross-attention stands between its encoder and its answers",
    "clip": _TOWERS,
    "siglip": _TOWERS,
    "wav2vec2": _EXTRACTOR,
    "hubert": _EXTRACTOR,
    "wavlm": f"{_EXTRACTOR}, and a position bias of all heads is handed from layer to layer",
    "audio-spectrogram-transformer": "its repair has not been shown on sounds",
    "gemma3": "it reads pictures beside texts, and of Gemma 3 only what reads texts alone"
    " (gemma3_text) is pruned",
}


def find_family(model_type: str) -> Family | None:
    """The record for a model type of transformers, or None."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)


def pruned_types() -> str:
    """The model types whose layers are pruned, for hints."""
    return ", ".join(one for family in FAMILIES for one in family.model_types)


def require_family(model_type: str) -> Family:
    """The record for a model type. Raises PruneError, with the reason where it is known."""
    found = find_family(model_type)
    if found is not None:
        return found
    known = pruned_types()
    reason = SKIPPED.get(model_type)
    if reason is not None:
        raise PruneError(
            f"A {model_type} model cannot be pruned: {reason}.",
            hint=f"Quantize it instead, or take a model of another family: {known}.",
        )
    raise PruneError(
        f"edgekit does not know where the heads and layers of a {model_type} model are.",
        hint=f"It knows those of {known}.",
    )
