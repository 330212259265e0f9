"""Statistics of a network on data: activations and gradients."""
