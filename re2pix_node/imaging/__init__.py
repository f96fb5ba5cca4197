"""Camera pixels to model pixels, and back."""
