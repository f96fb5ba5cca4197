"""A model on disk: find it, read it, check it, write it."""
