"""Exported files, each checked against the network it came from."""
