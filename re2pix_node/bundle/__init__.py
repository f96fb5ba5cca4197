"""A model on disk: found, read, checked and written."""
