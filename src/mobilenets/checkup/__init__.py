"""Checks of a data set before training: files, folders, classes, duplicates and images."""
