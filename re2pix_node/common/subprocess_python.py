"""How to run a module of ours in a child process."""

import os
import sys


def command(module: str, *words: str) -> list[str]:
    """The command that calls the module's `main` with these words in `sys.argv`.

    It does not use `-m`, which would search the working directory first and run any module of the same name there.
    """
    script = f"import sys; sys.path[:] = filter(None, sys.path); from {module} import main; sys.exit(main())"
    return [sys.executable, "-c", script, *words]


def environment() -> dict[str, str]:
    """Environment in which the child imports from the same folders as this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
