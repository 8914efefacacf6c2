"""Pictures and sounds of DATA as the bundle prepares them: which module does it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from edgekit.core.manifest import Manifest
from edgekit.evaluation.pictures import picture_batches
from edgekit.evaluation.sounds import sound_batches
from edgekit.runtime.session import Array
from edgekit.sources.data import Samples


class Prepared(NamedTuple):
    """The graph's inputs for a batch; of sounds with how many seconds they last on average."""

    feeds: dict[str, Array]
    seconds: float | None = None


def prepared_batches(manifest: Manifest, samples: Samples, batch: int) -> Iterator[Prepared]:
    """`batch` pictures or sounds after the other, whole batches only.

    Raises ConfigError for one that cannot be read.
    """
    if (manifest.processor or {}).get("kind") == "audio":
        yield from (Prepared(*made) for made in sound_batches(manifest, samples, batch))
    else:
        yield from (Prepared(feeds) for feeds in picture_batches(manifest, samples, batch))


def prepared_feeds(manifest: Manifest, samples: Samples, count: int) -> list[dict[str, Array]]:
    """The graph's inputs for each of the first `count` pictures or sounds of the samples."""
    return [made.feeds for made in islice(prepared_batches(manifest, samples, 1), count)]
