"""Accuracy of a bundle against PyTorch: both on the same samples, for every task."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from scipy import special

from edgekit.core.bundle import Bundle
from edgekit.core.errors import ConfigError
from edgekit.evaluation.accuracy import evaluate
from edgekit.evaluation.answers import gather, read_units
from edgekit.evaluation.masking import hide_word, log_likelihood
from edgekit.evaluation.reference import Reference
from edgekit.evaluation.sides import CandidateText, OutputRow, ReferenceText
from edgekit.evaluation.statistics import Budget
from edgekit.evaluation.texts import run_texts
from edgekit.runtime import load
from edgekit.runtime.model import Model
from edgekit.runtime.text import Encoding, TextProcessor
from edgekit.sources.data import Samples
from edgekit.sources.data_columns import Label
from edgekit.sources.data_roles import Inputs, hash_inputs
from tests.evaluation.conftest import linear_source, text_source
from tests.runtime.conftest import CORPUS, LABELS, MAX_LENGTH, TAGS

Make = Callable[..., Bundle]
WORDS = " ".join(CORPUS).split()
COUNT = 60


def samples_of(
    task: str, inputs: list[Inputs], labels: list[Label] | None = None, **changes: object
) -> Samples:
    """Samples as they come from a file."""
    hashes = tuple(hash_inputs(row) for row in inputs)
    made = None if labels is None else tuple(labels)
    return Samples(task, tuple(inputs), made, hashes, **changes)  # type: ignore[arg-type]


def texts(count: int = COUNT, longest: int = 12, seed: int = 0) -> list[str]:
    """Sentences of known words; some are longer than the model takes."""
    generator = random.Random(seed)
    return [
        " ".join(generator.choice(WORDS) for _ in range(generator.randint(2, longest)))
        for _ in range(count)
    ]


def labelled(kind: str) -> Samples:
    """Random labels: metrics are compared between the two sides, not with a good model."""
    generator = random.Random(1)
    if kind == "classification":
        rows: list[Inputs] = [{"text": text} for text in texts()]
        return samples_of(
            "text-classification", rows, [generator.randrange(len(LABELS)) for _ in rows]
        )
    if kind == "token-classification":
        rows = [{"tokens": tuple(text.split())} for text in texts()]
        tags = [tuple(generator.randrange(len(TAGS)) for _ in row["tokens"]) for row in rows]
        return samples_of("token-classification", rows, list(tags))
    if kind == "question-answering":
        # Contexts over the model's length are read in windows.
        rows = [{"question": "the fox", "context": text} for text in texts(longest=40)]
        answers = [(" ".join(str(row["context"]).split()[:2]),) for row in rows]
        return samples_of("question-answering", rows, list(answers))
    if kind == "fill-mask":
        return samples_of("fill-mask", [{"text": text} for text in texts()])
    pairs = zip(texts(seed=2), texts(seed=3), strict=True)
    rows = [{"text": one, "text_pair": other} for one, other in pairs]
    return samples_of("feature-extraction", rows, [generator.random() for _ in rows])


KINDS = (
    "classification", "token-classification", "question-answering", "embedding", "hidden-states",
    "fill-mask",
)  # fmt: skip
METRIC = {
    "classification": "accuracy",
    "token-classification": "token-accuracy",
    "question-answering": "answer-f1",
    "embedding": "spearman",
    "hidden-states": "spearman",
    "fill-mask": "token-agreement",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_model_has_the_same_accuracy(bundle_of: Make, kind: str) -> None:
    """Both sides tokenize, run and answer by themselves, and agree on every sample."""
    samples = labelled(kind)
    with load(bundle_of(kind).path) as model:
        found = evaluate(model, text_source(kind), samples)
    assert found.accuracy.metric == METRIC[kind]
    assert found.accuracy.reference == pytest.approx(found.accuracy.candidate)
    assert found.accuracy.drop == pytest.approx(0, abs=1e-12)
    assert found.accuracy.drop_lower_95 <= 0 <= found.accuracy.drop_upper_95
    assert found.accuracy.samples == COUNT
    for numerics in found.numerics.values():
        assert numerics.max_abs < 1e-5
        assert numerics.cosine == pytest.approx(1)
        assert numerics.argmax_agreement in (1, None)
    assert not any("other tokens" in note for note in found.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_another_model_disagrees(bundle_of: Make, kind: str) -> None:
    """Without labels the metric is agreement with the reference, whose own is 1."""
    samples = labelled(kind)
    bare = Samples(samples.task, samples.inputs, None, samples.hashes)
    with load(bundle_of(kind).path) as model:
        found = evaluate(model, text_source(kind, shift=1.5), bare, max_drop="2pt")
    assert "agreement" in found.accuracy.metric
    assert found.accuracy.reference == pytest.approx(1)
    assert found.accuracy.candidate < 0.99
    assert found.accuracy.drop == pytest.approx(1 - found.accuracy.candidate)
    assert max(numerics.max_abs for numerics in found.numerics.values()) > 0.1


def test_accuracy_is_what_the_models_answers_are(bundle_of: Make) -> None:
    """The candidate's accuracy is that of its labels through the public call."""
    samples = labelled("classification")
    assert samples.labels is not None
    with load(bundle_of("classification").path) as model:
        found = evaluate(model, text_source("classification"), samples)
        answers = model([str(row["text"]) for row in samples.inputs])
    right = [
        LABELS.index(answer["label"]) == label
        for answer, label in zip(answers, samples.labels, strict=True)  # type: ignore[call-overload]
    ]
    assert found.accuracy.candidate == pytest.approx(np.mean(right))


def test_a_broken_model_fails(bundle_of: Make) -> None:
    """Labels that the reference gets right and the candidate does not are a failure."""
    rows: list[Inputs] = [{"text": text} for text in texts(count=400)]
    with load(bundle_of("classification").path) as model:
        reference = text_source("classification", shift=0.8)
        first = evaluate(model, reference, samples_of("text-classification", rows))
        reader = TextProcessor(model.manifest.processor or {}, model.bundle.path)
        runner = Reference(reference)
        labels: list[Label] = [
            int(runner.run(reader.encode([str(row["text"])]).feeds)["logits"].argmax())
            for row in rows
        ]
        found = evaluate(model, reference, samples_of("text-classification", rows, labels))
    assert found.accuracy.reference == 1
    assert found.accuracy.candidate == pytest.approx(first.accuracy.candidate)
    assert found.verdict == "fail"


def test_the_drop_is_in_the_budgets_unit(bundle_of: Make) -> None:
    """Relative to the reference for percent, absolute for points."""
    samples = labelled("classification")
    with load(bundle_of("classification").path) as model:
        source = text_source("classification", shift=1.5)
        relative = evaluate(model, source, samples, max_drop="1%").accuracy
        points = evaluate(model, source, samples, max_drop=Budget(0.01, "points")).accuracy
    assert points.drop == pytest.approx(points.reference - points.candidate)
    assert relative.drop == pytest.approx(points.drop / points.reference)


def test_a_metric_can_be_chosen(bundle_of: Make) -> None:
    """Among those that fit."""
    samples = labelled("question-answering")
    with load(bundle_of("question-answering").path) as model:
        source = text_source("question-answering")
        found = evaluate(model, source, samples, metric="exact-match")
        assert found.accuracy.metric == "exact-match"
        with pytest.raises(ConfigError, match="does not fit"):
            evaluate(model, source, samples, metric="accuracy")


def test_several_labels_have_their_own_metric(bundle_of: Make) -> None:
    """The problem decides the metric, not the task alone."""
    rows: list[Inputs] = [{"text": text} for text in texts()]
    several = samples_of(
        "text-classification", rows, [(1, 2)] * COUNT, problem="multi_label_classification"
    )
    with load(bundle_of("classification").path) as model:
        found = evaluate(model, text_source("classification"), several)
    assert found.accuracy.metric == "f1-micro"
    assert 0 < found.accuracy.reference < 1


def test_words_beyond_the_length_are_nobodys_mistake(bundle_of: Make) -> None:
    """Tags of words that the original cannot reach are not counted."""
    tokens = tuple(WORDS[i % len(WORDS)] for i in range(3 * MAX_LENGTH))
    rows: list[Inputs] = [{"tokens": tokens}] * 3
    with load(bundle_of("token-classification").path) as model:
        source = text_source("token-classification")
        bare = evaluate(model, source, samples_of("token-classification", rows))
        assert bare.accuracy.candidate == 1
        # The reference's own tags as labels, and nonsense where it did not look.
        pairs = run_texts(  # what evaluate compares
            model, source, samples_of("token-classification", rows), notes=[]
        )
        labels: list[Label] = [
            tuple(int(tag) if tag >= 0 else 0 for tag in np.asarray(seen))
            for seen in pairs.reference
        ]
        found = evaluate(model, source, samples_of("token-classification", rows, labels))
    assert (found.accuracy.reference, found.accuracy.candidate) == (1, 1)
    assert any("truncated" in note for note in found.notes)


def test_the_tag_of_a_word_is_that_of_its_first_token(bundle_of: Make) -> None:
    """One tag per word, however many tokens it has."""
    rows: list[Inputs] = [{"tokens": ("quick", "the", "東京")}] * 2
    with load(bundle_of("token-classification").path) as model:
        side = CandidateText(model)
        unit = read_units(samples_of("token-classification", rows), side.task)[0]
        ((encoding,),) = side.tokenize([unit.text])
        (row,) = side.run([encoding])
        tags = gather("token-classification", unit, [row], side)
    firsts = [encoding.tokens.index(token) for token in ("q", "the", "東")]
    expected = row.outputs["logits"].argmax(axis=-1)[firsts]
    np.testing.assert_array_equal(np.asarray(tags), expected)


def test_masks_are_compared_where_they_are(bundle_of: Make) -> None:
    """A text with masks is judged at them, one without at every token."""
    rows: list[Inputs] = [{"text": "the [MASK] fox [MASK]"}, {"text": "the quick fox"}]
    with load(bundle_of("fill-mask").path) as model:
        side = CandidateText(model)
        sizes = []
        for unit in read_units(samples_of("fill-mask", rows), side.task):
            (encodings,) = side.tokenize([unit.text])
            answer = gather("fill-mask", unit, side.run(encodings), side)
            sizes.append((len(np.asarray(answer)), len(encodings[0]) - 2))
    assert sizes[0][0] == 2
    assert sizes[1][0] == sizes[1][1]


@pytest.mark.parametrize("shape", [{"batch": 1}, {"batch": 4}, {"sequence": MAX_LENGTH}])
def test_fixed_shapes_are_filled(bundle_of: Make, shape: dict[str, int]) -> None:
    """A bundle of one shape gives the accuracy of one of any."""
    samples = labelled("classification")
    with load(bundle_of("classification", **shape).path) as model:
        found = evaluate(model, text_source("classification"), samples)
    assert found.accuracy.candidate == found.accuracy.reference
    assert found.numerics["logits"].max_abs < 1e-5


def test_a_shorter_bundle_is_noticed(bundle_of: Make) -> None:
    """A bundle fixed to fewer tokens reads less than the original did, which is said."""
    samples = labelled("classification")
    with load(bundle_of("classification", sequence=6).path) as model:
        found = evaluate(model, text_source("classification"), samples)
    assert any("other tokens" in note for note in found.notes)


def test_a_tokenizer_without_offsets_is_replaced_and_said(bundle_of: Make) -> None:
    """Pure Python tokenizers cannot say which word a token is of."""
    with load(bundle_of("classification").path) as model:
        source = text_source("classification", tokenizer=None)
        found = evaluate(model, source, labelled("classification"))
    assert found.accuracy.candidate == found.accuracy.reference
    assert any("offsets" in note for note in found.notes)


def arrays(label: str | None) -> Samples:
    """Samples of the linear model."""
    generator = np.random.default_rng(0)
    rows: list[Inputs] = [
        {name: generator.normal(size=3).astype(np.float32) for name in ("a", "b")}
        for _ in range(COUNT)
    ]
    if label is None:
        return samples_of("custom", rows)
    sums = [2 * np.asarray(row["a"]) + np.asarray(row["b"]) for row in rows]
    if label == "class":
        labels: list[Label] = [int(total.argmax()) for total in sums]
        return samples_of("custom", rows, labels, problem="single_label_classification")
    values: list[Label] = [tuple((total + 0.5).tolist()) for total in sums]
    return samples_of("custom", rows, values, problem="regression")


@pytest.mark.parametrize(
    ("label", "metric", "value"),
    [("class", "accuracy", 1.0), ("value", "mae", 0.5), (None, "cosine-agreement", 1.0)],
)
def test_custom_models(bundle_of: Make, label: str | None, metric: str, value: float) -> None:
    """Integers are classes, floats values, nothing is agreement."""
    with load(bundle_of("linear").path) as model:
        found = evaluate(model, linear_source(), arrays(label))
    assert found.accuracy.metric == metric
    assert found.accuracy.candidate == pytest.approx(value, rel=1e-5)
    assert set(found.numerics) == {"y"}


def test_wider_floats_are_narrowed(bundle_of: Make) -> None:
    """numpy writes float64 unless told otherwise; integers do not become of floats."""
    rows: list[Inputs] = [{"a": np.ones(3), "b": np.ones(3)}] * 40
    with load(bundle_of("linear").path) as model:
        found = evaluate(model, linear_source(), samples_of("custom", rows))
        assert found.accuracy.candidate == pytest.approx(1)
        bad: list[Inputs] = [{"a": np.ones(3) * 1j, "b": np.ones(3)}] * 40
        with pytest.raises(ConfigError, match="complex"):
            evaluate(model, linear_source(), samples_of("custom", bad))


def test_labels_beyond_the_classes_are_refused(bundle_of: Make) -> None:
    """They would silently be wrong for both."""
    rows: list[Inputs] = [{"text": text} for text in texts()]
    samples = samples_of("text-classification", rows, [9] * COUNT)
    path = bundle_of("classification").path
    with load(path) as model, pytest.raises(ConfigError, match="3 classes"):
        evaluate(model, text_source("classification"), samples)


def test_labels_below_the_classes_are_refused(bundle_of: Make) -> None:
    """-1 is wrong for all in accuracy and the last class in F1; it is neither."""
    with load(bundle_of("classification").path) as model:
        rows: list[Inputs] = [{"text": text} for text in texts()]
        samples = samples_of("text-classification", rows, [0] * (COUNT - 1) + [-1])
        for metric in ("accuracy", "f1-macro"):
            with pytest.raises(ConfigError, match="label -1 is no class"):
                evaluate(model, text_source("classification"), samples, metric=metric)


def test_samples_of_another_task_are_refused(bundle_of: Make) -> None:
    """And none at all, and tags that do not fit their tokens."""
    with load(bundle_of("token-classification").path) as model:
        source = text_source("token-classification")
        with pytest.raises(ConfigError, match="for fill-mask"):
            evaluate(model, source, labelled("fill-mask"))
        with pytest.raises(ConfigError, match="no samples"):
            evaluate(model, source, samples_of("token-classification", []))
        short = samples_of("token-classification", [{"tokens": ("the", "fox")}], [(1,)])
        with pytest.raises(ConfigError, match="2 tokens and 1 tags"):
            evaluate(model, source, short)


def test_a_sample_the_task_does_not_take_is_named(bundle_of: Make) -> None:
    """As a configuration error: the data is at fault, not the device."""
    rows: list[Inputs] = [{"question": "q", "context": "the fox"}, {"question": "", "context": "c"}]
    samples = samples_of("question-answering", rows)
    path = bundle_of("question-answering").path
    with load(path) as model, pytest.raises(ConfigError, match="Row 2"):
        evaluate(model, text_source("question-answering"), samples)


def test_progress_is_told_now_and_then(bundle_of: Make) -> None:
    """At most about ten times."""
    said: list[str] = []
    with load(bundle_of("classification").path) as model:
        evaluate(
            model, text_source("classification"), labelled("classification"), batch_size=1,
            progress=said.append,
        )  # fmt: skip
    assert 5 <= len(said) <= 11


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_answers_that_are_no_numbers_fail(
    bundle_of: Make, monkeypatch: pytest.MonkeyPatch, kind: str, wrong: float
) -> None:
    """With the number of samples, whatever the metric makes of them."""
    whole = CandidateText.run
    done: list[object] = []

    def run(side: CandidateText, encodings: Sequence[Encoding]) -> list[OutputRow]:
        rows = whole(side, encodings)
        if not done:
            done.append(rows)
            spoilt = {name: np.full_like(array, wrong) for name, array in rows[0].outputs.items()}
            rows[0] = OutputRow(rows[0].encoding, spoilt)
        return rows

    monkeypatch.setattr(CandidateText, "run", run)
    with load(bundle_of(kind).path) as model:
        found = evaluate(model, text_source(kind), labelled(kind), max_drop="90%")
    assert found.verdict == "fail"
    assert found.accuracy.samples_needed is None
    assert f"NaN or infinities on 1 of {COUNT} samples" in str(found.problem)


@pytest.mark.parametrize("label", ["class", "value", None])
def test_arrays_that_are_no_numbers_fail(
    bundle_of: Make, monkeypatch: pytest.MonkeyPatch, label: str | None
) -> None:
    """Custom models likewise."""
    whole = Model.run

    def run(model: Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = whole(model, feeds)
        outputs["y"][0] = np.nan
        return outputs

    monkeypatch.setattr(Model, "run", run)
    with load(bundle_of("linear").path) as model:
        found = evaluate(model, linear_source(), arrays(label), max_drop="90%", batch_size=COUNT)
    assert (found.verdict, found.accuracy.samples) == ("fail", COUNT)
    assert f"1 of {COUNT} samples" in str(found.problem)


@pytest.mark.parametrize("label", ["class", "value", None])
def test_outputs_of_another_shape_fail(
    bundle_of: Make, monkeypatch: pytest.MonkeyPatch, label: str | None
) -> None:
    """By the output's name, and without a comparison that has no meaning."""
    whole = Model.run

    def run(model: Model, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array[:, :2] for name, array in whole(model, feeds).items()}

    monkeypatch.setattr(Model, "run", run)
    with load(bundle_of("linear").path) as model:
        found = evaluate(model, linear_source(), arrays(label), max_drop="90%")
    assert found.verdict == "fail"
    assert "output y has the shape" in str(found.problem)


def test_perplexity_asks_for_a_hidden_word(bundle_of: Make) -> None:
    """The same word of both models; another model finds it less or more likely."""
    samples = labelled("fill-mask")
    with load(bundle_of("fill-mask").path) as model:
        same = evaluate(model, text_source("fill-mask"), samples, metric="perplexity")
        other = evaluate(model, text_source("fill-mask", shift=1.5), samples, metric="perplexity")
    assert same.accuracy.reference == pytest.approx(same.accuracy.candidate, rel=1e-5)
    assert same.accuracy.candidate == pytest.approx(other.accuracy.candidate)
    assert other.accuracy.reference != pytest.approx(other.accuracy.candidate, rel=1e-2)
    assert 1 < same.accuracy.reference < 1e6
    assert other.worst[0].reference.startswith("log-likelihood")


def test_the_hidden_word_is_whole_and_the_likelihood_scipys(bundle_of: Make) -> None:
    """A word of one token, chosen by the text alone."""
    with load(bundle_of("fill-mask").path) as model:
        side = CandidateText(model)
        ((first,), (again,)) = side.tokenize(["the quick fox", "the quick fox"])
        mask = side.mask_token_id
        assert isinstance(mask, int)
        hidden, twice = (hide_word("the quick fox", one, mask) for one in (first, again))
        assert hidden.ids == twice.ids
        assert hidden.ids.count(mask) == 1
        assert first.ids[hidden.place] == hidden.hidden
        assert first.tokens[hidden.place] in ("the", "fox")  # type: ignore[attr-defined]
        (row,) = side.run([hidden])
        expected = special.log_softmax(row.outputs["logits"][hidden.place].astype(np.float64))
        found = log_likelihood(hidden, row.outputs["logits"])
        assert found == pytest.approx(expected[hidden.hidden])


def test_a_text_with_a_mask_has_no_perplexity(bundle_of: Make) -> None:
    """What stood there is not known; the sample is named."""
    samples = samples_of("fill-mask", [{"text": "the fox"}, {"text": "the [MASK] fox"}])
    path = bundle_of("fill-mask").path
    with load(path) as model, pytest.raises(ConfigError, match=r"Row 2 .* holds a mask"):
        evaluate(model, text_source("fill-mask"), samples, metric="perplexity")


def test_the_divergence_is_told_of_classes_alone(bundle_of: Make) -> None:
    """Embeddings have none; a model held against itself has next to none."""
    for kind in ("classification", "token-classification", "embedding"):
        with load(bundle_of(kind).path) as model:
            same = evaluate(model, text_source(kind), labelled(kind)).numerics
            other = evaluate(model, text_source(kind, shift=1.5), labelled(kind)).numerics
        if kind == "embedding":
            assert same["sentence_embedding"].kl is None
        else:
            assert same["logits"].kl == pytest.approx(0, abs=1e-9)
            assert (other["logits"].kl or 0) > 1e-3


def test_the_worst_samples_are_those_that_changed(bundle_of: Make) -> None:
    """With the text, the label's name and both answers; the first ones are other decisions."""
    samples = labelled("classification")
    assert samples.labels is not None
    with load(bundle_of("classification").path) as model:
        found = evaluate(model, text_source("classification", shift=1.5), samples, worst=5)
        answers = model([str(row["text"]) for row in samples.inputs])
    assert len(found.worst) == 5
    for sample in found.worst:
        answer = answers[sample.row - 1]  # type: ignore[index]
        assert sample.input == samples.inputs[sample.row - 1]["text"]
        assert sample.label == LABELS[int(samples.labels[sample.row - 1])]  # type: ignore[arg-type]
        assert sample.candidate == f"{answer['label']} {answer['score']:.3f}"
    assert found.worst[0].changed
    largest = max(numerics.max_abs for numerics in found.numerics.values())
    assert max(sample.distance for sample in found.worst) <= largest


def test_many_texts_are_tokenized_as_each_alone(bundle_of: Make) -> None:
    """Pairs and single texts together, and questions in windows."""
    rows: list[Inputs] = [
        {"text": text, "text_pair": "the fox"} if index % 3 else {"text": text}
        for index, text in enumerate(texts(20))
    ]
    with load(bundle_of("classification").path) as model:
        side = ReferenceText(text_source("classification"), CandidateText(model), frozenset())
        units = [unit.text for unit in read_units(
            samples_of("text-classification", rows), CandidateText(model).task)]  # fmt: skip
        together = side.tokenize(units)
        alone = [side.tokenize([text])[0] for text in units]
    ids = [[encoding.ids for encoding in rows] for rows in together]
    assert ids == [[encoding.ids for encoding in rows] for rows in alone]
