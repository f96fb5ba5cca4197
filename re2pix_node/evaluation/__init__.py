"""The judge: scores what ships, a bundle's graphs through an engine, against baselines on drives with known futures."""
