"""Frozen vision models that features are made of: one file each."""
