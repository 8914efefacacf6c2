"""Pictures and sounds of DATA as the bundle prepares them: which module does it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from edgekit.core.manifest import Manifest
from edgekit.evaluation.pictures import picture_batches
from edgekit.evaluation.sounds import sound_batches
from edgekit.runtime.session import Array
from edgekit.sources.data import Samples


def prepared_batches(
    manifest: Manifest, samples: Samples, batch: int
) -> Iterator[dict[str, Array]]:
    """The graph's inputs for `batch` pictures or sounds after the other, whole batches only.

    Raises ConfigError for one that cannot be read.
    """
    if (manifest.processor or {}).get("kind") == "audio":
        return sound_batches(manifest, samples, batch)
    return picture_batches(manifest, samples, batch)


def prepared_feeds(manifest: Manifest, samples: Samples, count: int) -> list[dict[str, Array]]:
    """The graph's inputs for each of the first `count` pictures or sounds of the samples."""
    return [*islice(prepared_batches(manifest, samples, 1), count)]
