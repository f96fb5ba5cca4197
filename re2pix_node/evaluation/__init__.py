"""Scores a bundle's graphs, run by an engine, against baselines on drives whose future is known."""
