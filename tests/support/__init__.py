"""Makes the data of tests and demo: a tiny real bundle, and a drawn drive."""
