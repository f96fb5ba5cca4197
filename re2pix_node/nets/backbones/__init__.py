"""Frozen vision models that give the features, one file each."""
