"""Pruning: what to cut from a model, the cut itself, and the repair of what is left."""
