"""How many axes tensors have, in graphs that declare next to nothing."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from edgekit.graph.decoders.ranks import ranks_of

GRAPH = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
tiny (int64[batch, sequence] ids, float[10, 8] table, float[8, 8] weight, float[8] scale)
  => (float[?] last)
<int64[1] eight = {8}, int64[1] two = {2}>
{
   embedded = Gather (table, ids)
   projected = MatMul (embedded, weight)
   quantized = com.microsoft.MatMulNBits <K: int = 8, N: int = 8> (embedded, weight, scale)
   summed = Add (projected, scale)
   other = Add (scale, projected)
   normed = RMSNormalization <axis: int = -1> (summed, scale)
   rows = Shape <start: int = 0, end: int = 2> (ids)
   whole = Shape (normed)
   apart = Concat <axis: int = 0> (rows, two, eight)
   heads = Reshape (normed, apart)
   turned = Transpose <perm: ints = [0, 2, 1, 3]> (heads)
   again = Reshape (turned, whole)
   counted = NonZero (ids)
   listed = Reshape (turned, counted)
   last = Add (listed, scale)
}
"""


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("ids", 2), ("table", 2), ("embedded", 3), ("projected", 3), ("quantized", 3),
        ("summed", 3), ("other", 3), ("normed", 3), ("heads", 4), ("turned", 4), ("again", 3),
    ],
)  # fmt: skip
def test_operators_tell(name: str, rank: int) -> None:
    """What is declared of inputs and weights is enough for what is made of them."""
    graph = ir.serde.deserialize_model(onnx.parser.parse_model(GRAPH)).graph
    assert ranks_of(graph)[name] == rank


@pytest.mark.parametrize("name", ["counted", "listed"])
def test_what_is_not_known_is_not_told(name: str) -> None:
    """Neither of an operator that is not known, nor of a list whose length is not."""
    graph = ir.serde.deserialize_model(onnx.parser.parse_model(GRAPH)).graph
    assert name not in ranks_of(graph)
