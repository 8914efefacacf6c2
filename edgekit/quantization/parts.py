"""Several components quantized by one recipe: what they have of one name is told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.errors import ConfigError
from edgekit.quantization.recipes import Group, Prepared, QuantizedComponent, Recipe


@dataclass(frozen=True)
class Part:
    """One of several components, its groups called ``decoder.…``. See `recipes.Prepared`."""

    name: str
    prepared: Prepared

    @property
    def groups(self) -> tuple[Group, ...]:
        """See `recipes.Prepared.groups`."""
        return tuple(replace(one, name=self._called(one.name)) for one in self.prepared.groups)

    def unsuited(self, recipe: Recipe) -> str | None:
        """See `recipes.Prepared.unsuited`."""
        return self.prepared.unsuited(self._own(recipe))

    def supports(self, recipe: Recipe) -> bool:
        """See `recipes.Prepared.supports`."""
        return self.prepared.supports(self._own(recipe))

    def write(self, recipe: Recipe, directory: Path) -> QuantizedComponent:
        """See `recipes.Prepared.write`."""
        written = self.prepared.write(self._own(recipe), directory)
        kept = (replace(one, node=self._called(one.node)) for one in written.kept_float)
        return replace(written, kept_float=tuple(kept))

    def _called(self, name: str) -> str:
        return f"{self.name}.{name}"

    def _own(self, recipe: Recipe) -> Recipe:
        """The recipe with the levels of this component's groups alone."""
        start = self._called("")
        levels = {
            name.removeprefix(start): level
            for name, level in recipe.levels.items()
            if name.startswith(start)
        }
        return replace(recipe, levels=levels)


def exclusions(
    patterns: Sequence[str], components: Sequence[str], chosen: Sequence[str]
) -> Mapping[str, list[str]]:
    """The patterns of ``--exclude`` for each of the `chosen` of a bundle's `components`.

    Where there are several a pattern begins with the component's name and a dot, as groups are
    called then; it need not where one alone is chosen. Raises ConfigError for one that does not
    say, or that is of a component which stays as it is.
    """
    found: dict[str, list[str]] = {name: [] for name in chosen}
    for pattern in patterns:
        name, _, own = pattern.partition(".")
        named = len(components) > 1 and name in components and bool(own)
        if named and name not in chosen:
            raise ConfigError(
                f"--exclude {pattern!r} is of the component {name}, which stays as it is.",
                hint="Leave it out.",
            )
        if not named and len(chosen) > 1:
            raise ConfigError(
                f"--exclude {pattern!r} does not say of which component: there are"
                f" {', '.join(components)}.",
                hint=f"Write {chosen[0]}.{pattern}, or quantize one of them with --component.",
            )
        found[name if named else chosen[0]].append(own if named else pattern)
    return found
