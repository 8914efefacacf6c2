"""What `--exclude` keeps in float: whole groups, by their own name or that of an operator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from edgekit.core.errors import ConfigError
from edgekit.quantization.recipes import Group

# Why an operator stays in float that `--exclude` names, or a group of it.
EXCLUDED = "excluded"
# Names that a message proposes.
_NEAREST = 3


def excluded(
    patterns: Sequence[str],
    groups: Sequence[Group],
    *,
    titles: Mapping[str, str] | None = None,
    kept: Collection[str] = (),
) -> frozenset[str]:
    """The names of the groups that a pattern matches, as of a shell, upper and lower case apart.

    A pattern matches a group by the group's name or by that of any operator in it: what is
    quantized together is kept together. A name that stands for itself always matches, whatever
    brackets it has.

    Args:
        titles: by operator what the user sees it called, where that is not the name in `nodes`.
        kept: operators that stay in float anyway; naming them is no mistake.

    Raises ConfigError for a pattern that matches nothing, with the nearest names.
    """
    shown = titles or {}
    names = {
        group.name: (group.name, *group.nodes, *(shown[one] for one in group.nodes if one in shown))
        for group in groups
    }
    found: set[str] = set()
    for pattern in patterns:
        matched = {
            group for group, known in names.items() if any(_is(name, pattern) for name in known)
        }
        if not matched and not any(_is(name, pattern) for name in kept):
            offered = [shown.get(name, name) for known in names.values() for name in known]
            raise ConfigError(
                f"--exclude {pattern!r} is the name of no group and of no operator that could be"
                " quantized.",
                hint=_near(pattern, sorted({*offered, *kept})),
            )
        found |= matched
    return frozenset(found)


def _near(pattern: str, names: Sequence[str]) -> str:
    """The few names that a pattern may have meant, and what lists all."""
    close = get_close_matches(pattern, names, n=_NEAREST, cutoff=0.4)
    inside = [name for name in names if pattern.strip("*?/").casefold() in name.casefold()]
    few = list(dict.fromkeys([*close, *inside]))[:_NEAREST] or names[:_NEAREST]
    told = "Near it" if close or inside else "Among them"
    return (
        f"{told}: {', '.join(map(repr, few))}. All groups are listed by: edgekit quantize BUNDLE -o"
        " OUTPUT --sensitivity"
    )


def _is(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)
