"""Our own modules, run by processes of their own."""

import os
import sys


def command(module: str, *words: str) -> list[str]:
    """Calls the module's `main`, which finds the words in `sys.argv`.

    Not by `-m`, which looks for every import in the working directory first, and runs what happens to lie there.
    """
    script = f"import sys; sys.path[:] = filter(None, sys.path); from {module} import main; sys.exit(main())"
    return [sys.executable, "-c", script, *words]


def environment() -> dict[str, str]:
    """With which it finds what we found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
