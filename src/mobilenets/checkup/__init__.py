"""The data's doctor: looks at every image before training, and says what would go wrong."""
