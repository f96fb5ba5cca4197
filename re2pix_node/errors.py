"""Errors caused by the user's input. A message is one line: what is wrong, where, and how to fix it."""

BAD_INPUT = 2  # exit code
LONGEST = 2000  # characters of a message


def printable(text: str) -> str:
    """The text with line breaks, terminal codes and broken characters as escapes: it cannot look like another line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Re2pixError(Exception):
    """Base of all errors caused by the input; commands print it and exit with code 2.

    Names from files are in many messages, so every message is made printable and shortened here.
    """

    def __init__(self, message: str = "") -> None:
        text = printable(message)
        super().__init__(text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[5 - LONGEST // 2 :]}")


class BundleError(Re2pixError):
    """A bundle that cannot be used."""


class EngineError(Re2pixError):
    """An engine that cannot run a bundle on this machine, or that failed while running."""


class OutputError(EngineError):
    """Outputs of one frame that must not be published; the engine itself works."""


class NotFiniteError(OutputError):
    """Features or a picture of one frame contain NaN or infinity, in the type in which they are published."""


class ImageError(Re2pixError):
    """An image message that cannot be turned into a picture."""


class StampError(Re2pixError):
    """A frame whose time ROS or a forecast from it cannot express."""


class BagError(Re2pixError):
    """A recording that cannot be read or written."""


class DataError(Re2pixError):
    """Footage or labels that cannot be used."""


class CheckpointError(Re2pixError):
    """A checkpoint that cannot be imported."""


class TrainingError(Re2pixError):
    """A training run that cannot start or continue."""
