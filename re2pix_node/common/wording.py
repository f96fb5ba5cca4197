"""Text from outside, as it is shown to people: errors of other libraries, names in files, topics."""

from typing import Any, TextIO

from re2pix_node.errors import Re2pixError, printable

__all__ = ["PrintableStream", "described", "one_line", "printable"]

LONGEST = 300  # characters of a message


class PrintableStream:
    """A text stream in which terminal codes and broken characters come out as escapes; line breaks and tabs stay."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text if text.isprintable() else "".join(map(_shown, text)))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _shown(character: str) -> str:
    return character if character in "\n\t" else printable(character)


def one_line(error: BaseException, longest: int = LONGEST) -> str:
    """The message without line breaks. A long one loses its middle: runtimes name their source files first and the
    cause last."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    head = longest // 5
    return text if len(text) <= longest else f"{text[:head]} ... {text[head + 5 - longest :]}"


def described(error: BaseException) -> str:
    """The message, with the kind of the error if it is not one of ours."""
    return one_line(error) if isinstance(error, Re2pixError) else f"{type(error).__name__}: {one_line(error)}"
