"""The real node, a camera that is played, and a listener."""
