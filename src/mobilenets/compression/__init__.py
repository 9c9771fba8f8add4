"""Networks in 8 bits: calibration, quantization, and the ladder that wins back what it cost."""
