"""Predicting on very many images with Ray."""
