"""The border with NNCF: what a recipe means to it, its telemetry off, its voice kept down."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from edgekit.core.errors import EdgekitError, QuantizeError
from edgekit.core.lazy import require
from edgekit.evaluation.counting import Counted
from edgekit.quantization.openvino_recipes import ESTIMATORS
from edgekit.quantization.recipes import Feeds, Recipe
from edgekit.runtime.engines.openvino import import_openvino, short_reason, telemetry_hidden

if TYPE_CHECKING:
    import openvino as ov

ATTENTION = "ScaledDotProductAttention"
# What it would quantize without an integer kernel to run it: the processor computes attention in
# floating point, and quantizing its inputs is an error for nothing.
_FLOAT_TYPES = (ATTENTION, "LSTMSequence", "GRUSequence", "LSTMCell", "GRUCell")


def import_nncf() -> ModuleType:
    """The module `nncf`, its telemetry off. The one place that imports it.

    With NNCF_CI set it sends nothing, but its import still writes an identity under the home folder
    when it finds openvino_telemetry. A value that the user has set is left alone.

    Raises MissingDependency.
    """
    os.environ.setdefault("NNCF_CI", "1")
    import_openvino()
    kind = logging.getLoggerClass()
    try:
        with telemetry_hidden():
            nncf = require("nncf", "build")
    finally:
        # Its import makes every later logger of the process one of its own.
        logging.setLoggerClass(kind)
    # It logs to standard output, which belongs to results.
    logging.getLogger("nncf").handlers.clear()
    return nncf


def version() -> str:
    """The release of NNCF. Raises MissingDependency."""
    return str(import_nncf().__version__)


def quantize_activations(
    model: ov.Model,
    recipe: Recipe,
    samples: Sequence[Feeds],
    ignored: Collection[str],
    progress: Callable[[str], None],
) -> ov.Model:
    """The graph with FakeQuantize nodes on activations and weights, the weights still float.

    SmoothQuant (arXiv 2211.10438) and bias correction (arXiv 1906.04721) are done as the recipe
    says. `ignored` names the operators that stay as they are.

    Raises QuantizeError for what NNCF does not take.
    """
    nncf = import_nncf()
    from nncf.openvino.quantization.backend_parameters import BackendParameters
    from nncf.quantization import advanced_parameters as advanced
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    options = advanced.AdvancedQuantizationParameters(
        overflow_fix=_overflow(advanced, recipe),
        disable_bias_correction=recipe.correction == "none",
        smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(
            matmul=-1 if recipe.smooth is None else recipe.smooth
        ),
        # Weights are made integers when the groups that are raised are known.
        backend_params={BackendParameters.COMPRESS_WEIGHTS: False},
    )
    if recipe.calibrator != "auto":
        options.activations_range_estimator_params = getattr(
            RangeEstimatorParametersSet, ESTIMATORS[recipe.calibrator]
        )
    types = {str(node.get_type_name()) for node in model.get_ops()}
    # Its set of patterns for transformers leaves normalisations and residual sums alone.
    transformer = bool(types & {ATTENTION, "MVN", "Softmax"}) and "Convolution" not in types
    preset = nncf.QuantizationPreset
    with _quietly("quantize the graph"):
        return nncf.quantize(
            model,
            nncf.Dataset(list(samples), _told(len(samples), progress)),
            preset=preset.PERFORMANCE if recipe.symmetric else preset.MIXED,
            subset_size=len(samples),
            fast_bias_correction=recipe.correction != "full",
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            ignored_scope=nncf.IgnoredScope(
                names=sorted(ignored),
                types=[kind for kind in _FLOAT_TYPES if kind in types],
                validate=False,
            ),
            advanced_parameters=options,
        )


def compress_weights(
    model: ov.Model, recipe: Recipe, bits: int, ignored: Collection[str]
) -> ov.Model:
    """The graph with weights of `bits` (8 or 4), each with the scale of its channel or block.

    `ignored` names the operators that stay as they are. Raises QuantizeError.
    """
    nncf = import_nncf()
    from nncf.quantization import advanced_parameters as advanced

    unsigned = recipe.weights == "u8"
    modes = nncf.CompressWeightsMode
    asked: dict[str, object] = {"mode": modes.INT8_ASYM if unsigned else modes.INT8_SYM}
    if bits == 4:
        asked = {
            "mode": modes.INT4_ASYM if unsigned else modes.INT4_SYM,
            "group_size": recipe.block,
            # Tables and the last layer get 8 bits: NNCF's own choice.
            "all_layers": False,
            "advanced_parameters": advanced.AdvancedCompressionParameters(
                group_size_fallback_mode=advanced.GroupSizeFallbackMode.ADJUST
            ),
        }
    scope = nncf.IgnoredScope(names=sorted(ignored), validate=False)
    with _quietly("compress the weights"):
        return nncf.compress_weights(model, ignored_scope=scope, **asked)


def make_integer(model: ov.Model) -> None:
    """Store the weights behind FakeQuantize nodes as the integers that they stand for, in place."""
    import_openvino()
    from openvino._offline_transformations import compress_quantize_weights_transformation

    with _quietly("store the weights as integers"):
        compress_quantize_weights_transformation(model)


def _told(rows: int, progress: Callable[[str], None]) -> Callable[[Feeds], Feeds]:
    """Hands a row on, and tells of it: each of NNCF's algorithms runs over all rows once more."""
    taken = 0
    told = Counted(progress, rows)

    def hand_on(feeds: Feeds) -> Feeds:
        nonlocal taken
        passes, row = divmod(taken, rows)
        taken += 1
        told.tell(f"Calibrating with NNCF: pass {passes + 1}, sample {row + 1} of {rows}", row + 1)
        return feeds

    return hand_on


def _overflow(advanced: ModuleType, recipe: Recipe) -> object:
    # Without a word it would look at the processor of this machine.
    fix = advanced.OverflowFix
    return fix.ENABLE if recipe.reduce_range else fix.DISABLE


@contextlib.contextmanager
def _quietly(doing: str) -> Iterator[None]:
    """Keep progress bars off standard output; a failure becomes a QuantizeError."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except EdgekitError:
        raise
    except Exception as error:  # NNCF raises RuntimeError, ValueError and its own
        raise QuantizeError(
            f"NNCF could not {doing}: {short_reason(error)}",
            hint="Try another --method, or leave operators out with --exclude.",
        ) from error
