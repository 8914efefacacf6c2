"""How requests reach a model while it is measured: MLPerf's scenarios, and an edge app's own.

``single-stream``: the next request comes when the last one is answered. ``server``: requests come
at random times (Poisson) at a rate, and a latency counts from the moment the request was due.
``sparse``: one request, then nothing for some seconds. ``offline``: all requests are there at
once, and what counts is how many are answered per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast, get_args

import numpy as np

from edgekit.core.errors import ConfigError

ScenarioName: TypeAlias = Literal["single-stream", "offline", "server", "sparse"]

SCENARIOS: tuple[ScenarioName, ...] = get_args(ScenarioName)
SPARSE_SECONDS = 2.0

_TURN_SECONDS = 0.05
_MOST_TURNS = 80
# A queue that is empty at the start of every turn needs some requests to be what it is.
_TURN_REQUESTS = 50
# Enough of one inference for a turn; a request that is answered token by token is many of them.
_TURN_INFERENCES = 5


@dataclass(frozen=True)
class Scenario:
    """One way of asking; `make_scenario` makes it of options.

    ``qps``: requests per second of ``server``. ``interval``: seconds before each request of
    ``sparse``. ``streams``: callers at a time in ``offline``, None for the better of one and as
    many as there are threads. ``seed`` decides when the requests of ``server`` come.
    """

    name: ScenarioName
    qps: float | None = None
    interval: float | None = None
    streams: int | None = None
    seed: int = 0

    @property
    def steady(self) -> bool:
        """Whether the mean time of a request tells how many a second are answered."""
        return self.name in ("single-stream", "offline")

    def turn(self, *place: int) -> Scenario:
        """The scenario of one turn of many: the same place has the same arrivals in every child."""
        # A seed sequence takes no negative numbers, and a user's seed may be one.
        state = np.random.SeedSequence([self.seed % (1 << 64), *place]).generate_state(1)
        return replace(self, seed=int(state[0]))

    def to_json(self) -> dict[str, object]:
        """The record as commands and results hold it: the keys that mean something for it."""
        if self.name == "server":
            return {"name": self.name, "qps": self.qps, "seed": self.seed}
        if self.name == "sparse":
            return {"name": self.name, "interval": self.interval}
        if self.name == "offline":
            return {"name": self.name, "streams": self.streams}
        return {"name": self.name}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Scenario:
        """The scenario of a record. Raises ConfigError as `make_scenario` does."""
        return make_scenario(
            str(value.get("name")),
            qps=cast("float | None", value.get("qps")),
            interval=cast("float | None", value.get("interval")),
            streams=cast("int | None", value.get("streams")),
            seed=cast(int, value.get("seed", 0)),
        )


SINGLE_STREAM = Scenario("single-stream")


def make_scenario(
    name: str,
    *,
    qps: float | None = None,
    interval: float | None = None,
    streams: int | None = None,
    seed: int = 0,
) -> Scenario:
    """The scenario of some options; sparse requests are 2 s apart unless `interval` says.

    Raises ConfigError for an unknown name, and for an option that is missing, wrong, or of
    another scenario.
    """
    if name not in SCENARIOS:
        raise ConfigError(
            f"There is no scenario {name!r}.", hint=f"Choose one of {', '.join(SCENARIOS)}."
        )
    owners = (
        ("--qps", qps, "server"), ("--interval", interval, "sparse"),
        ("--streams", streams, "offline"),
    )  # fmt: skip
    for option, given, owner in owners:
        if given is None:
            continue
        if name != owner:
            raise ConfigError(
                f"{option} belongs to the scenario {owner}, not to {name}.",
                hint=f"Pass --scenario {owner}, or leave {option} out.",
            )
        if not 0 < given < float("inf"):
            raise ConfigError(f"{option} should be above 0, got {given:g}.")
    if name == "server" and qps is None:
        raise ConfigError(
            "--scenario server needs to know how many requests come per second.",
            hint="Pass --qps N.",
        )
    if name == "sparse" and interval is None:
        interval = SPARSE_SECONDS
    return Scenario(name, qps, interval, streams, seed)


def plan_turns(
    seconds: float,
    slowest_ms: float,
    scenario: Scenario = SINGLE_STREAM,
    *,
    generating: bool = False,
) -> tuple[int, float, int]:
    """(turns, seconds of each, least inferences of each) for one process's share of the budget.

    Turns are short, so that contenders that take turns see the same disturbances, and long enough
    for five inferences of the slowest (one request of models that are `generating`), for some
    requests of a server, for one that is sparse.
    """
    each = 1 if generating else _TURN_INFERENCES
    shortest = max(_TURN_SECONDS, each * slowest_ms / 1e3)
    if scenario.qps is not None:
        shortest = max(shortest, _TURN_REQUESTS / scenario.qps)
    if scenario.interval is not None:
        shortest = scenario.interval
    turns = min(_MOST_TURNS, max(1, int(seconds / shortest)))
    # Three sparse requests would take many times the budget, and so would three long answers.
    alone = turns == 1 and scenario.interval is None
    return turns, seconds / turns, (2 if generating else 3) if alone else 1
