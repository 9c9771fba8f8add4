"""Networks as LiteRT files."""
