"""Recovery: weights that a plan keeps are fitted anew, so that the slim network computes what the dense one does."""
