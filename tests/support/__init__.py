"""Makes what the tests and the demo run on: a tiny real bundle, and a drawn drive."""
