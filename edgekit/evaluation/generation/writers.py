"""Who answers texts with texts: the bundle as an app asks it, and its original in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgekit.core.errors import ConfigError, InputMismatch
from edgekit.evaluation.counting import Counted
from edgekit.evaluation.generation.original import Original
from edgekit.evaluation.metrics.speech import distance
from edgekit.evaluation.naming import answered, reading
from edgekit.evaluation.pairs import Pairs
from edgekit.runtime.batching import plan_batches
from edgekit.runtime.generation.options import read_options, room
from edgekit.runtime.generation.predicting import PROMPTS, GenerationPredictor
from edgekit.runtime.generation.rules import GenerationRules
from edgekit.runtime.model import Model
from edgekit.runtime.text import encode
from edgekit.sources.data import LEAST_VERDICT_ROWS, Samples
from edgekit.sources.quiet import quiet

#: What both sides are asked with: the checkpoint's own options, but nothing is drawn.
OPTIONS: Mapping[str, object] = {"do_sample": False}
# The tokens by which PyTorch's threads are chosen.
_TRIED = 4


def readable(model: Model, samples: Samples) -> tuple[Samples, str | None]:
    """The samples that the model reads, and a sentence on those that are too long for it.

    Raises ConfigError for a text that cannot be read, and where too few of them are not too long.
    """
    predictor = model.predictor
    if not isinstance(predictor, GenerationPredictor) or samples.task != "text2text-generation":
        return samples, None
    most = predictor.rules.encoder_context
    kept = []
    for index, text in enumerate(_asked(samples, predictor.rules)):
        with reading(samples, index):
            size = len(encode(predictor.tokenizer, text).ids)
            if not size:
                raise InputMismatch("the text has no tokens.")
        if most is None or size <= most:
            kept.append(index)
    left = len(samples) - len(kept)
    if not left:
        return samples, None
    least = LEAST_VERDICT_ROWS if len(samples) >= LEAST_VERDICT_ROWS else 1
    if len(kept) < least:
        raise ConfigError(
            f"{left:,} of {len(samples):,} texts are longer than the {most:,} tokens that the model"
            f" reads; of the {len(kept):,} others it takes at least {least}.",
            hint="Give texts in shorter parts.",
        )
    out = "is" if left == 1 else "are"
    return samples.take(kept), (
        f"Of {len(samples):,} texts {left:,} {out} left out: the model reads at most {most:,}"
        " tokens."
    )


def run_texts(
    model: Model,
    original: Original,
    samples: Samples,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Pairs:
    """What both write for each text, by the checkpoint's own options; nothing is drawn.

    The bundle tokenizes, generates and spells by itself, PyTorch with `generate` and transformers'
    tokenizer. Raises InputMismatch for texts that a model refuses.
    """
    predictor = model.predictor
    assert isinstance(predictor, GenerationPredictor)
    rules = predictor.rules
    texts = [str(row["source"]) for row in samples.inputs]
    write = _writer(original, rules, model.task)
    before, after = [""] * len(texts), [""] * len(texts)
    counted = Counted(progress, len(texts))
    done = 0
    sizes = [len(encode(predictor.tokenizer, text).ids) for text in _asked(samples, rules)]

    def told(part: Sequence[int]) -> object:
        return model([texts[index] for index in part], batch_size=PROMPTS, **OPTIONS)

    def wanted(part: Sequence[int]) -> list[str]:
        some = [texts[index] for index in part]
        return original.each([samples.hashes[index] for index in part], some, write)

    for indices in plan_batches(sizes, PROMPTS):
        found = answered(samples, indices, told)
        assert isinstance(found, list)
        expected = answered(samples, indices, wanted)
        for index, answer, text in zip(indices, found, expected, strict=True):
            (said,) = answer.values()
            before[index], after[index] = text.strip(), str(said).strip()
        done += len(indices)
        counted.tell(f"Answered {done:,} of {len(texts):,} texts", done)
    return written(before, after)


def written(before: Sequence[str], after: Sequence[str]) -> Pairs:
    """The pairs of two models' answers; gaps are the shares of words that differ."""
    gaps = [_apart(one, other) for one, other in zip(before, after, strict=True)]
    return Pairs(list(before), list(after), gaps)


def _apart(one: str, other: str) -> float:
    if one == other:
        return 0.0
    first, second = one.split(), other.split()
    # Another blank between the same words is a difference as well.
    return max(distance(first, second) / max(len(first), len(second), 1), 1e-6)


def _asked(samples: Samples, rules: GenerationRules) -> list[str]:
    """The texts as an encoder reads them."""
    return [(rules.prefix or "") + str(row["source"]) for row in samples.inputs]


def _writer(
    original: Original, rules: GenerationRules, task: str
) -> Callable[[Sequence[str]], list[str]]:
    """PyTorch's answers to some texts at once."""
    import torch

    tokenizer: Any = original.source.tokenizer
    most = room(read_options(OPTIONS, rules, task=task), rules, len(rules.start))
    # Those of a task that the bundle was exported for are not the checkpoint's own.
    own = {
        name: value
        for name, value in rules.defaults.items()
        if name not in ("max_length", "max_new_tokens")
    }

    def write(texts: Sequence[str]) -> list[str]:
        with quiet():
            read = [tokenizer((rules.prefix or "") + text)["input_ids"] for text in texts]
        width = max(map(len, read))
        ids = torch.full((len(read), width), rules.pad, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(read):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1

        def generate(model: Any, count: int = min(_TRIED, most)) -> Any:
            return model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=count,
                pad_token_id=rules.pad, **{**own, **OPTIONS},
            )  # fmt: skip

        asked = "a text" if len(texts) == 1 else f"{len(texts)} texts"
        with original.asked(asked, generate) as model:
            rows = generate(model, most)[:, len(rules.start) :].tolist()
        return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]

    return write
