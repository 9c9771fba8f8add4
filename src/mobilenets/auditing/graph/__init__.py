"""A network of any origin as a graph of operators: PyTorch, ONNX, TensorFlow Lite; and probes of its behaviour."""
