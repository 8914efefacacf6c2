"""`pictures`: 20 photographs of ImageNet in folders that are called as their classes."""

from __future__ import annotations

import re

from benchmarks.zoo import members
from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.rows import Bench

_FOLDER = "foolbox/data/imagenet_"
_NAME = re.compile(r"imagenet_(\d+)_(\d+)\.jpg\Z")
_LICENSE = "foolbox-3.3.4.dist-info/LICENSE"
_COUNT = 20


def build(bench: Bench) -> None:
    """Write ``CLASS/NUMBER.jpg`` for each picture; classes are ImageNet's numbers."""
    wheel = bench.archives["foolbox"]
    names = members.list_zip(wheel, _FOLDER)
    if len(names) != _COUNT:
        raise ZooError(f"The package holds {len(names)} pictures of ImageNet, not {_COUNT}.")
    for name in names:
        found = _NAME.search(name)
        if found is None:
            raise ZooError(f"The picture {name!r} does not say its class. Check the package.")
        folder = bench.target / found[2]
        folder.mkdir(exist_ok=True)
        (folder / f"{found[1]}.jpg").write_bytes(members.read_zip(wheel, name))
    (bench.target / "LICENSE").write_bytes(members.read_zip(wheel, _LICENSE))
