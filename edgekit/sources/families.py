"""The families of models that edgekit is tested with: which tasks, on which engines.

README prints this table, and a test fails for a row that no test exercises. Others may work: an
export is compared with PyTorch whatever the family, and refused where it differs.
"""

from __future__ import annotations

from dataclasses import dataclass

ENGINES = ("onnxruntime", "openvino")
TEXT_TASKS = (
    "feature-extraction", "text-classification", "token-classification", "question-answering",
    "fill-mask",
)  # fmt: skip
SOUND_TASKS = ("audio-classification", "automatic-speech-recognition")
_WINDOW = "the cache is kept whole: a window saves no memory"
_GENERATION = ("text-generation",)
_TEXT_TO_TEXT = ("text2text-generation",)
_CTC = "speech by CTC, decoded greedily: no language model"


@dataclass(frozen=True)
class Family:
    """One family: its name, the name that tests have for it, its tasks and engines.

    ``limits`` says in words what does not work, and why.
    """

    name: str
    key: str
    tasks: tuple[str, ...]
    engines: tuple[str, ...] = ENGINES
    limits: str = ""


FAMILIES = (
    Family("BERT", "bert", TEXT_TASKS),
    Family("DistilBERT", "distilbert", TEXT_TASKS),
    Family("RoBERTa", "roberta", TEXT_TASKS),
    Family("DeBERTa-v2", "deberta-v2", TEXT_TASKS),
    Family("ModernBERT", "modernbert", TEXT_TASKS),
    Family("ALBERT", "albert", TEXT_TASKS),
    Family("MPNet", "mpnet", TEXT_TASKS),
    Family("GPT-2", "gpt2", _GENERATION),
    Family("Llama, SmolLM2", "llama", _GENERATION),
    Family("Mistral", "mistral", _GENERATION, limits=_WINDOW),
    Family("Qwen2", "qwen2", _GENERATION),
    Family("Qwen3", "qwen3", _GENERATION),
    Family("Gemma 3, texts", "gemma3", _GENERATION, limits=_WINDOW),
    Family("T5", "t5", _TEXT_TO_TEXT),
    Family("BART", "bart", _TEXT_TO_TEXT),
    Family(
        "Marian", "marian", _TEXT_TO_TEXT,
        limits="with a tokenizer.json: the two vocabularies of its own tokenizer exist in Python"
        " only",
    ),
    Family("ViT", "vit", ("image-classification", "feature-extraction")),
    Family("DeiT", "deit", ("image-classification",)),
    Family("ResNet", "resnet", ("image-classification",)),
    Family("ConvNeXt", "convnext", ("image-classification",)),
    Family("MobileNetV2", "mobilenet-v2", ("image-classification",)),
    Family("Swin", "swin", ("image-classification",)),
    Family("SegFormer", "segformer", ("image-segmentation",)),
    Family(
        "DETR", "detr", ("object-detection",),
        limits="its masks are panoptic, which image-segmentation (semantic) is not",
    ),
    Family(
        "CLIP", "clip", ("feature-extraction",),
        limits="two components, `image` and `text`: compiled and measured, not quantized",
    ),
    Family(
        "Silero VAD, imported ONNX", "silero-vad", ("custom",),
        limits="of its six files OpenVINO does not convert three (`silero_vad`, `_16k_op15`,"
        " `_half`): their `If` branches differ in rank",
    ),
    Family("Wav2Vec2", "wav2vec2", SOUND_TASKS, limits=_CTC),
    Family("HuBERT", "hubert", SOUND_TASKS, limits=_CTC),
    Family("WavLM", "wavlm", SOUND_TASKS, limits=_CTC),
    Family("AST", "ast", ("audio-classification",)),
    Family(
        "Whisper", "whisper", SOUND_TASKS,
        limits="marks the time of sentences, not of words; never drawn anew at a higher"
        " temperature",
    ),
)  # fmt: skip
