"""The graph folded into layers, the published network as the same layers, and how the two differ and cost."""
