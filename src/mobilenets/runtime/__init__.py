"""Running exported files without PyTorch: one backend a runtime, and the classifier on top of them."""
