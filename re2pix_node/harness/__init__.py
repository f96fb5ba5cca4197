"""Runs the real node with a played camera and a listener: for demo, bench-node and soak."""
