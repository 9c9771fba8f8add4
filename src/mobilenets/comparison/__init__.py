"""Networks trained on the same images by the same recipe, measured in the same way, and one of them recommended."""
