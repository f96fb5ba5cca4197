"""Measures engines."""
