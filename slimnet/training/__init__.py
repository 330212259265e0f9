"""Training: the loop, its checkpoints, and pruning methods at work in it."""
