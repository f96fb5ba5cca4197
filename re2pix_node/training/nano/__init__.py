"""Trains the small forecaster."""
