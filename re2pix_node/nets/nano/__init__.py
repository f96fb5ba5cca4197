"""The small forecaster: moves the newest features along the motion that it finds, and corrects them."""
