"""Measuring and judging: metrics, paired verdicts, the reference in PyTorch, the bench parent."""
