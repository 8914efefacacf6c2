"""Runtime options tried on a bundle in the same run, and what is proposed when one pays."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.core.bundle import Bundle
from edgekit.core.measurements import Interval, Probe
from edgekit.evaluation.ratios import RatioEstimate
from edgekit.runtime.workloads import Workload

_SESSION = "session"
_DENORMALS = "session.set_denormal_as_zero"


@dataclass(frozen=True)
class Flip:
    """One option of one contender set to its other value.

    ``option`` is how people read it, ``options`` what the runtime is told, ``setting`` the
    argument of ``compile --set`` that keeps it; ``called`` is a name to run under instead of the
    usual one, which another contender may have.
    """

    contender: str
    option: str
    options: Mapping[str, object]
    setting: str
    called: str | None = None

    @property
    def name(self) -> str:
        """The name under which it runs."""
        return self.called or f"{self.contender} [{self.option}]"


def flips(name: str, bundle: Bundle, *, threads: int) -> list[Flip]:
    """The options that are worth trying on a bundle, by its engine."""
    made = _FLIPS.get(bundle.manifest.requires.engine)
    return [] if made is None else made(name, bundle.manifest.runtime.options, threads)


def _onnxruntime(name: str, options: Mapping[str, object], threads: int) -> list[Flip]:
    found: list[Flip] = []
    # One thread has no other to wait for.
    if threads > 1:
        spin = options.get("allow_spinning") is False
        text = str(spin).lower()
        found.append(
            Flip(
                name,
                f"allow_spinning={text}",
                {"allow_spinning": spin},
                f"options.onnxruntime.allow_spinning={text}",
            )
        )
    session = options.get(_SESSION)
    entries = session if isinstance(session, Mapping) else {}
    # The engine adapter sets it unless the bundle says otherwise.
    value = "0" if str(entries.get(_DENORMALS, "1")) == "1" else "1"
    found.append(
        Flip(
            name,
            f"{_DENORMALS}={value}",
            {_SESSION: {_DENORMALS: value}},
            f'options.onnxruntime.session={{"{_DENORMALS}"="{value}"}}',
        )
    )
    return found


def _openvino(name: str, options: Mapping[str, object], threads: int) -> list[Flip]:
    hint = "latency" if options.get("performance_hint") == "throughput" else "throughput"
    return [
        Flip(
            name,
            f"performance_hint={hint}",
            {"performance_hint": hint},
            f"options.openvino.performance_hint={hint}",
        )
    ]


_FLIPS: Mapping[str, Callable[[str, Mapping[str, object], int], list[Flip]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def probe(flip: Flip, workload: Workload, gain: RatioEstimate) -> Probe:
    """What the option came to at one workload."""
    return Probe(
        contender=flip.contender,
        option=flip.option,
        batch=workload.batch,
        length=workload.length,
        gain=Interval(gain.value, gain.low, gain.high),
        verdict=gain.verdict,
    )


def proposals(
    tried: Sequence[Flip], probes: Sequence[Probe], bundles: Mapping[str, Bundle]
) -> list[str]:
    """A sentence with the command for each option that was faster somewhere and nowhere slower."""
    notes: list[str] = []
    for flip in tried:
        own = [
            one for one in probes if (one.contender, one.option) == (flip.contender, flip.option)
        ]
        gains = [one for one in own if one.verdict == "faster"]
        if not gains or any(one.verdict == "slower" for one in own):
            continue
        best = max(gains, key=lambda one: one.gain.value)
        where = f"{best.batch}" if best.length is None else f"{best.batch}×{best.length}"
        notes.append(
            f"{flip.option} pays for {flip.contender}: {best.gain.value:.2f}×"
            f" ({best.gain.low:.2f}–{best.gain.high:.2f}) at {where}. To keep it:"
            f" {_command(flip, bundles[flip.contender])}"
        )
    return notes


def _command(flip: Flip, bundle: Bundle) -> str:
    """The line that compiles the bundle, or what it was compiled from, with the option."""
    manifest = bundle.manifest
    target = manifest.target.get("name", "host") if manifest.target else "host"
    source = "EXPORTED" if manifest.stage == "compiled" else str(bundle.path)
    words = ["edgekit", "compile", source, "-o", "OUTPUT", "--target", str(target)]
    return shlex.join([*words, "--set", flip.setting])
