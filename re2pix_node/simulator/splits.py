"""Assigns seeds to splits: the only place that keeps training, validation and test drives apart."""

SPLITS = {
    "train": range(80_000),
    "val": range(80_000, 90_000),
    "test": range(90_000, 100_000),
}


def split_of(seed: int) -> str:
    """The split of a seed."""
    for name, seeds in SPLITS.items():
        if seed in seeds:
            return name
    raise ValueError(f"seed {seed} is in no split")
