"""Reads YAML from elsewhere: plain values only, in one pass, and never more than it has characters for."""

from typing import Any

import yaml

from re2pix_node.common.limits import TEXT_VALUES
from re2pix_node.errors import BundleError

NUMBER_MAX = 40  # characters of a number
DIGITS_MAX = 20  # digits of an integer; larger ones cost time and cannot be printed
DEPTH_MAX = 32  # nesting of lists and mappings; deeper ones cost time and overflow the stack
_TAG = "tag:yaml.org,2002:"


def load_plain_yaml(text: str, where: str) -> object:
    """The value in `text`; BundleError names `where`.

    Tags could construct objects, aliases and merge keys grow without limit, repeated keys hide values, numbers in base
    60 take quadratic time.
    """
    try:
        loader = _PlainLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except _RefusedYamlError as error:
        raise BundleError(f"{where}{error}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a date that does not exist
        raise BundleError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


class _RefusedYamlError(Exception):
    """What is refused, after the place in the file."""


class _PlainLoader(yaml.SafeLoader):
    _depth = 0
    _left = 0

    def get_single_node(self) -> Any:
        self._left = TEXT_VALUES.value
        return super().get_single_node()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = f", line {event.start_mark.line + 1}"
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _RefusedYamlError(f"{line}: the YAML tag '{tag[:60]}' is not allowed: write plain values")
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedYamlError(f"{line}: the YAML alias '*{str(event.anchor)[:60]}' is not allowed: write it out")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _RefusedYamlError(": is nested too deeply: write plain values")
        self._left -= 1
        if self._left < 0:
            raise _RefusedYamlError(f": has too many values, {TEXT_VALUES}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node, line)
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
        return node


def _check_scalar(node: yaml.ScalarNode, line: str) -> None:
    kind = node.tag.removeprefix(_TAG)
    if kind == "int" and len(node.value) > DIGITS_MAX:
        raise _RefusedYamlError(f"{line}: a number of {len(node.value)} digits")
    if kind == "float" and len(node.value) > NUMBER_MAX:
        raise _RefusedYamlError(f"{line}: a number of {len(node.value)} characters")
    if kind in ("int", "float") and ":" in node.value:
        raise _RefusedYamlError(f"{line}: '{node.value}' is a number in base 60: write it as usual, or in quotes")
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise _RefusedYamlError(f"{line}: text with half a character (a surrogate): write it as UTF-8")


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        at = f", line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise _RefusedYamlError(f"{at}: the name of a field must be text, is a list or a mapping")
        if key.tag == f"{_TAG}merge":
            raise _RefusedYamlError(f"{at}: the merge key '<<' is not allowed: write it out")
        if key.value in seen:
            raise _RefusedYamlError(f"{at}: the field '{key.value[:60]}' occurs twice")
        seen.add(key.value)
