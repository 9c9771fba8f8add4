"""Labelled images from folders, zips and packages, decoded once and served in batches."""
