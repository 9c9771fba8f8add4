"""Measuring latency and memory of whatever can be called; no PyTorch here."""
