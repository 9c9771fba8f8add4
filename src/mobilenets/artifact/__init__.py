"""What an exported file says of itself, where that stands in each format, and how it is read; no PyTorch here."""
