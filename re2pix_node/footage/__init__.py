"""Labelled clips from footage in any supported format."""
