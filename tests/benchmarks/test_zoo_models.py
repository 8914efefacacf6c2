"""The real models of the zoo give the figures they are known for (these fetch)."""

from __future__ import annotations

import csv
import json
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    WhisperForConditionalGeneration,
)

from benchmarks.zoo import fetch
from benchmarks.zoo.converters import minilm_sentiment, movies
from edgekit.evaluation.metrics.speech import word_errors
from edgekit.runtime.sound import read_sound

pytestmark = pytest.mark.slow


def test_minilm_judges_documents_like_people() -> None:
    """Cosines of mean-pooled embeddings correlate with Lee's human scores at r = .656."""
    folder, data = fetch("minilm"), fetch("similarity")
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    lines = (data / "documents.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    unit = torch.nn.functional.normalize(mean, dim=-1).numpy()
    with (data / "pairs.csv").open(newline="") as file:
        pairs = list(csv.DictReader(file))
    cosines = [float(unit[int(pair["first"])] @ unit[int(pair["second"])]) for pair in pairs]
    scores = [float(pair["score"]) for pair in pairs]
    assert len(pairs) == 1225
    assert np.corrcoef(cosines, scores)[0, 1] == pytest.approx(0.656, abs=5e-4)


def test_the_digit_model_reads_the_digits() -> None:
    """The factory file classifies the data of the zoo as it is stored."""
    data = np.load(fetch("digits") / "digits.npz")
    image, label = data["image"][:1000], data["label"][:1000]
    spec = spec_from_file_location("zoo_digits_cnn", fetch("digits-cnn") / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    model, inputs = module.build()
    assert set(inputs) == {"image"}
    with torch.inference_mode():
        said = model(torch.from_numpy(image)).argmax(dim=-1).numpy()
    assert (said == label).mean() > 0.99


def test_the_sentiment_model_is_as_good_as_its_record() -> None:
    """Accuracy on the first held-out rows fits the recorded one, which is at least .82."""
    folder = fetch("minilm-sentiment")
    record = json.loads((folder / "training.json").read_text())
    assert record["accuracy"] >= 0.82
    assert record["train_rows"] > 3900
    assert record["held_out_rows"] > 5900
    held_out = movies.read(fetch("movies") / movies.HELD_OUT_FILE)[:500]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    accuracy = minilm_sentiment.measure(folder, *minilm_sentiment.encode(tokenizer, held_out))
    assert accuracy == pytest.approx(record["accuracy"], abs=0.05)


def test_smollm2_knows_a_capital_and_takes_a_chat() -> None:
    """It goes on as the model that it was made from does, and its template marks the turns."""
    folder = fetch("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        said = model.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(said[0, -2:]) == " Paris."
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi 42"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHi 42<|im_end|>\n")
    # Every digit is a token of its own, and nothing is put around a text.
    assert tokenizer.tokenize("in 1984") == ["in", "Ġ", "1", "9", "8", "4"]
    assert (
        tokenizer("Héllo 😀, it's").input_ids
        == tokenizer.backend_tokenizer.encode("Héllo 😀, it's", add_special_tokens=False).ids
    )


def test_whisper_hears_sentences() -> None:
    """Twelve clips with their transcripts: a tenth of the words is wrong at most."""
    folder, data = fetch("whisper-tiny-en"), fetch("speech")
    with (data / "speech.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::24]
    extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = WhisperForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    ).eval()
    waves = [read_sound(data / row["audio"], 16_000, most=480_000) for row in rows]
    features = extractor(waves, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.inference_mode():
        said = tokenizer.batch_decode(model.generate(features), skip_special_tokens=True)
    errors = word_errors(said, [row["transcription"] for row in rows])
    assert len(rows) == 12
    assert errors[:, 0].sum() / errors[:, 1].sum() < 0.1
