"""Made-up attacks on the readers of files: `python -m tests.hostile --cases 10000` runs them and says how many held."""
