"""Finds a part by the name in a file: a module of one of our folders, or any module by its dotted name."""

import importlib
import importlib.util
import pkgutil
from typing import TypeVar

Part = TypeVar("Part")


def find_part(folder: str, name: str, attribute: str, kind: type[Part], module: str = "") -> Part:
    """The `attribute` of the module `name` in the package `folder`; ValueError lists the known names.

    With `module`, each part is a package, and the attribute is in its module of that name.
    """
    path = part_path(folder, name, module)
    try:
        part = getattr(importlib.import_module(path), attribute, None)
    except (ImportError, TypeError) as error:  # TypeError: a name that starts with a dot
        raise ValueError(f"'{name}' cannot be imported: {error}") from None
    if not isinstance(part, kind):
        raise ValueError(f"'{name}' must be a module with a {kind.__name__} named {attribute}")
    return part


def part_path(folder: str, name: str, module: str = "") -> str:
    """The dotted path of the part; this imports nothing of it."""
    if "." in name:
        return name
    if name not in (known := known_parts(folder, module)):
        raise ValueError(f"must be {', '.join(known)} or the dotted name of a module, is '{name}'")
    return f"{folder}.{name}.{module}".rstrip(".")


def known_parts(folder: str, module: str = "") -> list[str]:
    """Names of the parts that the package `folder` has."""
    inside = pkgutil.iter_modules(importlib.import_module(folder).__path__)
    return [
        each.name
        for each in inside
        if not module or (each.ispkg and importlib.util.find_spec(f"{folder}.{each.name}.{module}"))
    ]
