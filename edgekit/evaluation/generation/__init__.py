"""Models that generate against their original: how likely texts are to both, or what both write."""
