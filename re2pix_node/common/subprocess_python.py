"""How to run code of ours in a child process, which imports nothing from the working directory.

With `-c` and `-m` Python searches the working directory before its own library: `./json.py` of a folder of recordings
would run. `-P` forbids that only since Python 3.11, and `-I` also drops PYTHONPATH, so the code removes it itself.
multiprocessing's `spawn` cannot do that: use `child_process`. Standard library only, because re2pix doctor needs it.
"""

import os
import sys
from pathlib import Path

_HOME = str(Path(__file__).resolve().parents[2])  # the folder of our package
_FIRST = "import sys; sys.path[:] = filter(None, sys.path)"  # `sys` is in the interpreter, not in a file


def code(text: str, *words: str) -> list[str]:
    """The command that runs this code with these words in `sys.argv`."""
    return [sys.executable, "-c", f"{_FIRST}\n{text}", *words]


def command(module: str, *words: str, ends_with: int | None = None) -> list[str]:
    """The command that calls the module's `main` with these words in `sys.argv`.

    It does not use `-m`, which would search the working directory first and run any module of the same name there.
    With `ends_with`, the child gets this signal when its parent ends in any way.
    """
    lines = [f"from {module} import main", "sys.exit(main())"]
    if ends_with is not None:
        lines.insert(0, "from re2pix_node.common.parent import end_with_the_parent")
        lines.insert(1, f"end_with_the_parent({int(ends_with)}, {os.getpid()})")
    return code("\n".join(lines), *words)


def environment() -> dict[str, str]:
    """Environment in which the child, and its children, import from the same folders as this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders()), "PYTHONSAFEPATH": "1"}


def folders() -> list[str]:
    """The folders from which this process imports, without a working directory that `-c` or `-m` has put there."""
    given = [os.path.realpath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    try:
        unasked = {str(Path.cwd().resolve())} - {*given, os.path.realpath(_HOME)}
    except OSError:  # the working directory was removed
        unasked = set()
    kept = [folder for folder in sys.path if folder and os.path.realpath(folder) not in unasked]
    return kept if _HOME in kept else [*kept, _HOME]
