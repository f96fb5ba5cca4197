"""Trains the networks that draw forecasts: vae, renderer, finisher."""
