"""Which of the operators that were quantized the CPU really computes with fewer bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import QuantizeError
from edgekit.quantization.openvino_groups import after, title
from edgekit.quantization.recipes import KeptFloat
from edgekit.runtime.engines.openvino import import_openvino, short_reason

if TYPE_CHECKING:
    import openvino as ov

_LOW = frozenset({"i8", "u8", "i4", "u4"})
_ATTENTION = "ScaledDotProductAttention"
# Of the compiled graph: what computes nothing.
_PASSIVE = frozenset({"Const", "Convert", "Input", "Output", "Reorder", "Reshape", "Transpose"})
# What the plugin puts behind the name of an operator that it gave integers.
_DEQUANTIZED = "/Dequantization"
_GONE = "nothing in the compiled graph has its name: it was folded or fused away"
_EXACT: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32"}
# How many operators behind one may be fused into it: a bias, an activation, a sum.
_FUSED = 4


@dataclass(frozen=True)
class Audit:
    """``computed`` counts by type the operators that run as asked, ``leftovers`` names the others.

    ``attention`` is the number of attentions that are one operator of the device.
    """

    computed: Mapping[str, int]
    leftovers: tuple[KeptFloat, ...]
    attention: int


def audit(
    xml: Path,
    *,
    activations: Collection[str] = (),
    weights: Collection[str] = (),
    bfloat16: Collection[str] = (),
    settings: Mapping[str, str] = _EXACT,
) -> Audit:
    """Compile an IR for the CPU of this machine and look at what became of its operators.

    `activations` names those whose input was quantized too, which should take integers on both
    sides; `weights` those that should read weights of 8 or 4 bits; `bfloat16` those that should
    take bfloat16. One that is fused into another is found by the names that the fused operator
    keeps. `settings` are the properties that the device is asked for.

    Raises QuantizeError when OpenVINO does not load the file.
    """
    openvino = import_openvino()
    core = openvino.Core()
    try:
        model = core.read_model(str(xml))
        compiled = core.compile_model(model, "CPU", dict(settings))
        runtime = compiled.get_runtime_model()
    except Exception as error:  # OpenVINO raises RuntimeError and its own
        raise QuantizeError(
            f"OpenVINO does not load {xml.name} that was just written: {short_reason(error)}",
            hint="Try another --method, or leave operators out with --exclude.",
        ) from error
    executed: dict[str, ov.Node] = {}
    attention = 0
    for node in runtime.get_ordered_ops():
        kind = _told(node, "layerType")
        attention += kind == _ATTENTION
        # What is left of constants and weights keeps the name of the operator it was made for.
        if kind not in _PASSIVE:
            for name in _told(node, "originalLayersNames").split(","):
                executed.setdefault(name.partition(_DEQUANTIZED)[0], node)
    wanted: dict[str, Callable[[ov.Node | None], str | None]] = {}
    wanted |= dict.fromkeys(weights, _reads_integers)
    wanted |= dict.fromkeys(activations, _takes_integers)
    wanted |= dict.fromkeys(bfloat16, _takes_bfloat16)
    computed: Counter[str] = Counter()
    leftovers: list[KeptFloat] = []
    for node in model.get_ordered_ops():
        reason_of = wanted.pop(str(node.get_friendly_name()), None)
        if reason_of is None:
            continue
        reason = reason_of(_found(node, executed))
        if reason is None:
            computed[str(node.get_type_name())] += 1
        else:
            leftovers.append(KeptFloat(title(str(node.get_friendly_name())), reason))
    # What was folded into another before it was written has no name of its own any more.
    leftovers += [KeptFloat(title(name), _GONE) for name in sorted(wanted)]
    return Audit(dict(sorted(computed.items())), tuple(leftovers), attention)


def _found(node: ov.Node, executed: Mapping[str, ov.Node]) -> ov.Node | None:
    """What runs the operator, maybe together with the bias and the activation behind it."""
    for _ in range(_FUSED):
        name = str(node.get_friendly_name())
        if name in executed:
            return executed[name]
        users = after(node)
        if len(users) != 1:
            return None
        node = users[0]
    return None


def _takes_integers(node: ov.Node | None) -> str | None:
    """Why an operator does not have integers on both sides; None when it does."""
    if node is None:
        return _GONE
    if _inputs(node)[0] not in _LOW:
        return f"the CPU runs it as {_kernel(node)} on {_inputs(node)[0]}"
    return _reads_integers(node)


def _reads_integers(node: ov.Node | None) -> str | None:
    """Why an operator does not read weights of 8 or 4 bits; None when it does."""
    if node is None:
        return _GONE
    if not _LOW.intersection(_inputs(node)):
        return f"the CPU widens its weights when it loads them, and runs it as {_kernel(node)}"
    return None


def _takes_bfloat16(node: ov.Node | None) -> str | None:
    """Why an operator does not take bfloat16; None when it does."""
    if node is None:
        return _GONE
    if "bf16" not in _inputs(node):
        return f"the CPU runs it as {_kernel(node)} on {_inputs(node)[0]}"
    return None


def _inputs(node: ov.Node) -> list[str]:
    return [str(port.get_element_type().get_type_name()) for port in node.input_values()]


def _kernel(node: ov.Node) -> str:
    return f"{_told(node, 'layerType')} ({_told(node, 'primitiveType')})"


def _told(node: ov.Node, key: str) -> str:
    info = node.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""
