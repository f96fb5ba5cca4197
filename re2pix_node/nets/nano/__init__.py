"""The small forecaster: finds motion, moves the newest features along it, and corrects them."""
