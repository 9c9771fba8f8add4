"""Measuring latency, throughput, memory and start of whatever answers images; no PyTorch here but as a peer."""
