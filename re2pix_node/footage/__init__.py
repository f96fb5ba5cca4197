"""Labelled clips, whatever format they are stored in."""
