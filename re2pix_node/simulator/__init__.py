"""Headless drives through a made-up street, with exact labels: `re2pix simulate`."""
