"""Weights from elsewhere: torchvision's, timm's and TensorFlow Lite files, run folders, and published ones by name."""
