"""The networks, a file per paper, and the registry that builds them by name."""
