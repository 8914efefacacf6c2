"""The latency table of a search: how many milliseconds each group costs at each level.

Timing every group by itself would drown in noise: the layers of a network repeat, so groups that
are alike are raised together and share what it costs.

Times are the one input of a search that does not follow from its seed, and what is chosen must not
hang on their last digits. They are therefore told in whole steps, of a twentieth of the largest:
what is left of noise decides only where a loss lies near the border of two steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edgekit.quantization.recipes import Group, Level, Recipe

# Kinds of groups that are timed apart; of more, those of one word for what they are go together.
MOST_CLASSES = 8
# Of the largest loss in a table: no loss is told more finely.
RESOLUTION = 0.05
# Times recipes against each other, interleaved: milliseconds by the names given. Nothing at all
# where they cannot be timed.
TimeAll = Callable[[Mapping[str, Recipe]], Mapping[str, float]]


def latency_table(
    groups: Sequence[Group], recipe: Recipe, levels: Sequence[Level], time_all: TimeAll
) -> dict[Level, dict[str, float]]:
    """The milliseconds that a group loses at a level against the recipe: ``[level][group]``.

    Alike are groups of one kind and size; where those are too many, of one kind, and each then has
    its part by its parameters. `time_all` is called once, with the recipe itself under the name
    ``recipe`` and one for each class and level. Losses are multiples of `RESOLUTION` of the largest
    of all levels, so that levels compare in whole steps too; they may be negative, by noise or by
    truth. The table is empty where nothing could be timed.
    """
    classes = _classes(groups)
    if recipe.correction == "full":
        # It takes long to find, and its shifts cost a call what those of the fast way do.
        recipe = replace(recipe, correction="fast")
    asked: dict[str, Recipe] = {"recipe": recipe}
    for level in levels:
        for number, alike in enumerate(classes):
            raised: dict[str, Level] = {group.name: level for group in alike}
            asked[f"{level}/{number}"] = replace(recipe, levels={**recipe.levels, **raised})
    found = time_all(asked)
    if not found:
        return {}
    table: dict[Level, dict[str, float]] = {}
    for level in levels:
        row = table.setdefault(level, {})
        for number, alike in enumerate(classes):
            lost = found[f"{level}/{number}"] - found["recipe"]
            weights = sum(group.parameters for group in alike)
            for group in alike:
                part = group.parameters / weights if weights else 1 / len(alike)
                row[group.name] = lost * part
    step = RESOLUTION * max((lost for row in table.values() for lost in row.values()), default=0.0)
    if step <= 0:
        return table
    return {
        level: {group: step * round(lost / step) for group, lost in row.items()}
        for level, row in table.items()
    }


def _classes(groups: Sequence[Group]) -> list[list[Group]]:
    for coarse in (False, True):
        found: dict[tuple[str, int], list[Group]] = {}
        for group in groups:
            found.setdefault((group.kind, 0 if coarse else group.parameters), []).append(group)
        if len(found) <= MOST_CLASSES:
            break
    return list(found.values())
