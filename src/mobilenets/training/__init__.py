"""The recipe and the one visible training loop."""
