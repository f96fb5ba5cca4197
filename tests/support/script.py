"""Runs the code in its first word: python -m tests.support.script CODE WORDS is python -c CODE WORDS."""

import sys

if __name__ == "__main__":
    exec(sys.argv.pop(1), {"__name__": "__main__"})
