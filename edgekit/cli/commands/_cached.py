"""What `inspect` says of a model that generates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from edgekit.core.errors import BundleError
from edgekit.core.manifest import TensorSpec

_LAYER = re.compile(r"(?P<front>past_key_values|present)\.(?P<layer>\d+)\.(?P<back>.+)")


def generation_facts(generation: Mapping[str, object] | None) -> list[tuple[str, object]]:
    """Its context, what ends an answer, its own options, and whether it chats."""
    if generation is None:
        return []
    # Only here: numpy is not needed to inspect other bundles.
    from edgekit.runtime.generation.rules import GenerationRules

    try:
        rules = GenerationRules.read(generation)
    except BundleError as error:
        return [("generates", f"not readable: {error.message}")]
    limit = "any number of tokens" if rules.context is None else f"{rules.context:,} tokens"
    if rules.mode == "decoder":
        told = f"up to {limit}, with the prompt"
    else:
        told = f"up to {limit}"
        if rules.encoder_context is not None:
            told = f"{told}, from up to {rules.encoder_context:,}"
    ends = ", ".join(map(str, rules.eos)) or "none"
    facts: list[tuple[str, object]] = [("generates", f"{told}; ends with the token {ends}")]
    if rules.defaults:
        facts.append(("by default", ", ".join(f"{k} = {v}" for k, v in rules.defaults.items())))
    if rules.chat is not None:
        facts.append(("chats", "yes, with its own template (the extra chat renders it)"))
    return facts


def spec_lines(specs: Sequence[TensorSpec]) -> list[str]:
    """The specs in words; a cache that is alike in all layers in one line for each of its parts."""
    several: dict[str, list[TensorSpec]] = {}
    for spec in specs:
        several.setdefault(_pattern(spec), []).append(spec)
    lines = []
    for alike in several.values():
        first, last = alike[0], alike[-1]
        found, ending = _LAYER.match(first.name), _LAYER.match(last.name)
        if len(alike) < 2 or found is None or ending is None:
            lines += [str(spec) for spec in alike]
            continue
        layers = f"{{{found['layer']}…{ending['layer']}}}"
        name = f"{found['front']}.{layers}.{found['back']}"
        lines.append(str(TensorSpec(name, first.dtype, first.shape)))
    return lines


def _pattern(spec: TensorSpec) -> str:
    """One for all layers of a cache, and for everything else its own."""
    found = _LAYER.match(spec.name)
    if found is None:
        return spec.name
    return f"{found['front']} {found['back']} {spec.dtype} {spec.shape}"
