"""A progress bar for an engine that is being built."""

import time

from tqdm import tqdm

from re2pix_node.engines.base import BuildInProgress

LAYOUT = "{percentage:3.0f}%|{bar:30}| {elapsed} {desc}"


def wait_in_sight(build: BuildInProgress) -> None:
    """Wait until the build is done; an interrupt ends the build."""
    try:
        with tqdm(total=100, bar_format=LAYOUT, leave=False, disable=None) as bar:
            while not build.done():
                told = build.progress()
                bar.set_description_str(told.phase[:70], refresh=False)
                bar.update(told.percent - bar.n)
                time.sleep(0.1)
    finally:  # Ctrl-C
        build.cancel()
