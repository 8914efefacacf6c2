"""What pruning needs of the other steps: goals, the time of cuts, the way to a verdict."""
