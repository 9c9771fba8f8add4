"""Scoring predict functions, and the statistics that say whether two networks differ."""
