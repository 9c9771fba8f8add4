"""The description inside an exported file: what it holds, where it is in each format, how it is read; no PyTorch."""
