"""What pruning leaves of a model: the plan of what was kept, and how it is applied again."""
