"""TensorFlow Lite files without TensorFlow and without PyTorch: tensors, operators, metadata, and the layers."""
