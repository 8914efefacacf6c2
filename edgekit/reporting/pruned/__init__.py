"""The report of a pruning: its headline, its pictures and its tables."""
