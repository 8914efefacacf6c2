"""The metrics by name, and which fit a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from edgekit.core.errors import ConfigError
from edgekit.core.profiles import nearest
from edgekit.evaluation.metrics import (
    answers,
    boxes,
    classes,
    masks,
    numbers,
    speech,
    tags,
    translations,
    vectors,
)
from edgekit.evaluation.metrics.classes import top as _top
from edgekit.evaluation.metrics.kinds import (
    Metric,
    exp_share,
    first,
    mean,
    root_mean,
    share,
    unbounded,
)

# Putting all boxes of a draw in order takes long.
_FEW = 1000


def _boxes(name: str, steps: slice) -> Metric:
    """A mean average precision over some of the overlaps."""
    return Metric(
        name, True, boxes.matches, boxes.average_precision(steps),
        influence=partial(boxes.lost_pictures, steps=steps), moved=boxes.matched_otherwise,
        resamples=_FEW,
    )  # fmt: skip


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", True, classes.correct, mean, first),
        Metric("top-5-accuracy", True, classes.top(5), mean, first),
        Metric(
            "f1-binary", True, classes.binary_hits, classes.f1_micro,
            influence=classes.micro_influence,
        ),
        Metric(
            "f1-micro", True, classes.hits, classes.f1_micro, influence=classes.micro_influence
        ),
        Metric(
            "f1-macro", True, classes.one_hits, classes.f1_macro,
            influence=classes.macro_influence,
        ),
        Metric(
            "matthews", True, classes.confusion, classes.matthews,
            influence=classes.matthews_influence,
        ),
        Metric("token-accuracy", True, tags.tags, share, influence=tags.share_influence),
        Metric("pearson", True, numbers.pairs, numbers.pearson, influence=unbounded),
        Metric(
            "spearman", True, numbers.pairs, numbers.spearman, influence=numbers.rank_influence,
            moved=numbers.out_of_order,
        ),
        Metric("mae", False, numbers.absolute, mean, influence=unbounded),
        Metric("rmse", False, numbers.squared, root_mean, influence=unbounded),
        Metric("exact-match", True, answers.exact, mean, first),
        Metric("answer-f1", True, answers.overlap, mean, first, graded=True),
        Metric(
            "perplexity", False, numbers.surprise, exp_share,
            influence=numbers.surprise_influence, hides_a_word=True,
        ),
        # Without labels: the reference's answer is the truth, and its own score is 1.
        Metric("agreement", True, classes.correct, mean, first),
        Metric("set-agreement", True, classes.same_set, mean, first),
        Metric("token-agreement", True, tags.tags, share, influence=tags.share_influence),
        Metric("answer-agreement", True, answers.exact, mean, first),
        Metric("text-agreement", True, answers.same, mean, first),
        Metric("pixel-accuracy", True, masks.right, share, influence=tags.share_influence),
        Metric("pixel-agreement", True, masks.right, share, influence=tags.share_influence),
        _boxes("map", slice(None)),
        _boxes("map-50", slice(1)),
        _boxes("box-agreement", slice(None)),
        Metric("wer", False, speech.word_errors, share, influence=speech.error_influence),
        Metric(
            "chrf", True, translations.character_matches, translations.chrf,
            influence=translations.match_influence(translations.chrf, slice(0, None, 3)),
        ),
        Metric(
            "bleu", True, translations.word_matches, translations.bleu,
            influence=translations.match_influence(
                translations.bleu, slice(2, None, 2), slice(1)
            ),
        ),
        Metric("rouge-1", True, translations.rouge(1), mean, first, graded=True),
        Metric("rouge-2", True, translations.rouge(2), mean, first, graded=True),
        Metric("rouge-l", True, translations.rouge_l, mean, first, graded=True),
        Metric("cer", False, speech.character_errors, share, influence=speech.error_influence),
        Metric("word-agreement", True, speech.words_kept, share, influence=tags.share_influence),
        Metric("cosine-agreement", True, vectors.cosines, mean, influence=vectors.of_cosines),
    )
}  # fmt: skip
# Metrics that must know what the classes are called.
NAMED: Mapping[str, Callable[[Sequence[str]], Metric]] = {
    "entity-f1": lambda names: Metric(
        "entity-f1", True, tags.entities(names), classes.f1_micro,
        influence=classes.micro_influence,
    ),
    "mean-iou": lambda names: Metric(
        "mean-iou", True, masks.overlaps(len(names)), masks.mean_iou, influence=unbounded
    ),
}  # fmt: skip
_TOP = re.compile(r"top-([1-9][0-9]{0,5})-accuracy\Z")

# What fits, the default first: by task and problem with labels, and without.
LABELLED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("text-classification", "single_label_classification"): (
        "accuracy", "f1-macro", "f1-binary", "matthews", "top-5-accuracy",
    ),
    ("text-classification", "multi_label_classification"): ("f1-micro",),
    ("text-classification", "regression"): ("spearman", "pearson", "mae", "rmse"),
    ("token-classification", ""): ("token-accuracy", "entity-f1"),
    ("question-answering", ""): ("answer-f1", "exact-match"),
    ("feature-extraction", ""): ("spearman", "pearson"),
    ("image-classification", "single_label_classification"): (
        "accuracy", "top-5-accuracy", "f1-macro", "f1-binary", "matthews",
    ),
    ("image-classification", "multi_label_classification"): ("f1-micro",),
    ("image-classification", "regression"): ("spearman", "pearson", "mae", "rmse"),
    ("image-segmentation", ""): ("mean-iou", "pixel-accuracy"),
    ("object-detection", ""): ("map", "map-50"),
    ("audio-classification", "single_label_classification"): (
        "accuracy", "top-5-accuracy", "f1-macro", "f1-binary", "matthews",
    ),
    ("audio-classification", "multi_label_classification"): ("f1-micro",),
    ("audio-classification", "regression"): ("spearman", "pearson", "mae", "rmse"),
    ("automatic-speech-recognition", ""): ("wer", "cer"),
    ("text2text-generation", ""): (
        "chrf", "bleu", "rouge-l", "rouge-1", "rouge-2", "exact-match",
    ),
    ("custom", "single_label_classification"): (
        "accuracy", "f1-macro", "f1-binary", "matthews", "top-5-accuracy",
    ),
    ("custom", "regression"): ("mae", "rmse"),
}  # fmt: skip
UNLABELLED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("text-classification", "single_label_classification"): ("agreement", "cosine-agreement"),
    ("text-classification", "multi_label_classification"): ("set-agreement", "cosine-agreement"),
    ("text-classification", "regression"): ("spearman", "pearson"),
    ("token-classification", ""): ("token-agreement",),
    ("question-answering", ""): ("answer-agreement",),
    ("feature-extraction", ""): ("cosine-agreement",),
    ("fill-mask", ""): ("token-agreement", "perplexity"),
    ("image-classification", "single_label_classification"): ("agreement", "cosine-agreement"),
    ("image-classification", "multi_label_classification"): ("set-agreement", "cosine-agreement"),
    ("image-classification", "regression"): ("spearman", "pearson"),
    ("image-segmentation", ""): ("pixel-agreement",),
    # The boxes that the reference is sure of are the truth.
    ("object-detection", ""): ("box-agreement",),
    ("audio-classification", "single_label_classification"): ("agreement", "cosine-agreement"),
    ("audio-classification", "multi_label_classification"): ("set-agreement", "cosine-agreement"),
    ("audio-classification", "regression"): ("spearman", "pearson"),
    ("automatic-speech-recognition", ""): ("word-agreement", "text-agreement"),
    ("text-generation", ""): ("perplexity",),
    ("text2text-generation", ""): ("text-agreement", "word-agreement"),
    # One number per sample, and anything else.
    ("custom", "regression"): ("spearman", "pearson"),
    ("custom", ""): ("cosine-agreement", "agreement"),
}

#: Tasks whose answer may be one class of several.
CLASSIFIED = frozenset(task for task, kind in LABELLED if kind == "single_label_classification")


def find_metric(
    task: str,
    problem: str | None,
    *,
    labelled: bool,
    name: str | None,
    classes: Sequence[str] = (),
) -> Metric:
    """The metric of a name, or the default of the task; ``classes`` are the names of the model's.

    Raises ConfigError for a name that does not fit the task or the data, naming those that do.
    """
    table = LABELLED if labelled else UNLABELLED
    fitting = table.get((task, problem or "")) or table.get((task, ""))
    if fitting is None:
        kind = "labelled" if labelled else "unlabelled"
        raise ConfigError(f"There is no metric for {kind} data of the task {task}.")
    if name is None:
        name = fitting[0]
    numbered = _TOP.match(name)
    if numbered and "top-5-accuracy" in fitting:
        return Metric(name, True, _top(int(numbered[1])), mean, first)
    if name in fitting:
        return NAMED[name](classes) if name in NAMED else METRICS[name]
    data = "with labels" if labelled else "without labels"
    fact = "does not fit" if name in METRICS or name in NAMED else "is not known for"
    raise ConfigError(
        f"The metric {name!r} {fact} {task} {data}.",
        hint=f"Fitting: {', '.join(fitting)}, or your own as module:function."
        f" {nearest(name, fitting)}",
    )
