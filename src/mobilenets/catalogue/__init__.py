"""What others have published about the family, and whether it agrees."""
