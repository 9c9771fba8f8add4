"""Results as tables, pictures and one self-contained page."""
