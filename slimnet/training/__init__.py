"""Training: the loop, its phases, data loading and checkpoints."""
