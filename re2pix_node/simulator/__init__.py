"""Simulates drives through made-up streets, with exact labels and without a screen: `re2pix simulate`."""
