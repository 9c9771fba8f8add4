"""The main job: networks trained on the same images by the same recipe, measured alike, and one of them chosen."""
