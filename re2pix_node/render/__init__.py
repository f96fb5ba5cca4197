"""Draws pictures of forecasts."""
