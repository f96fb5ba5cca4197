"""The table of parameters: allowed values, refused values and their messages, and the generated page."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from re2pix_node.engines.registry import engine_names
from re2pix_node.errors import Re2pixError
from re2pix_node.ros.parameters import Kind, NodeSettings, Parameter, When, complaint, page, parameters

ROOT = Path(__file__).resolve().parents[2]
TABLE = {parameter.name: parameter for parameter in parameters()}


@pytest.mark.parametrize("parameter", parameters(), ids=lambda parameter: parameter.name)
def test_defaults_are_allowed(parameter: Parameter) -> None:
    assert complaint(parameter, parameter.default) is None


@pytest.mark.parametrize("parameter", parameters(), ids=lambda parameter: parameter.name)
def test_every_parameter_is_described_in_one_line(parameter: Parameter) -> None:
    assert parameter.description.endswith(".")
    assert "\n" not in parameter.description


def test_settings_have_a_field_for_every_parameter() -> None:
    assert [field.name for field in dataclasses.fields(NodeSettings)] == list(TABLE)
    assert dataclasses.asdict(NodeSettings.of({})) == {name: parameter.default for name, parameter in TABLE.items()}


def test_parameters_that_the_design_calls_live_are() -> None:
    live = {name for name, parameter in TABLE.items() if parameter.when is When.LIVE}
    assert live == {"max_rate", "max_age", "max_pixels", "seed", "preview_rate", "render_rate"}
    assert {name for name, parameter in TABLE.items() if parameter.when is When.START} == {"autostart"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_rate", 10),
        ("max_rate", 0),
        ("max_rate", 1000.0),
        ("seed", 2**31 - 1),
        ("threads", 256),
        ("fit", ""),
        ("fit", "pad"),
        ("horizons", [0, 3]),
        ("horizons", []),
        ("outputs", ("preview",)),
        ("autostart", False),
    ],
)
def test_allowed(name: str, value: object) -> None:
    assert complaint(TABLE[name], value) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_rate", -3, "max_rate must lie from 0 to 1000, is -3"),
        ("max_rate", 1000.5, "max_rate must lie from 0 to 1000, is 1000.5"),
        ("max_rate", float("nan"), "max_rate must lie from 0 to 1000, is nan"),
        ("max_age", float("inf"), "max_age must lie from 0 to 3600, is inf"),
        ("max_rate", "fast", "max_rate must be a number, is 'fast'"),
        ("max_rate", True, "max_rate must be a number, is true"),
        ("max_rate", None, "max_rate must be a number, is not set"),
        ("seed", 2**31, "seed must lie from 0 to 2147483647, is 2147483648"),
        ("seed", 1.0, "seed must be a whole number, is 1.0"),
        ("seed", False, "seed must be a whole number, is false"),
        ("skill_window", 0.5, "skill_window must lie from 1 to 600, is 0.5"),
        ("bundle", "", "bundle must not be empty, is ''"),
        ("bundle", 7, "bundle must be text, is 7"),
        ("engine", "abacus", f"engine must be one of {', '.join(engine_names())}, is 'abacus'"),
        ("fit", "squeeze", "fit must be one of '' (empty), crop, stretch, pad, is 'squeeze'"),
        ("fit", "two\nlines", "fit must be one of '' (empty), crop, stretch, pad, is 'two\\nlines'"),
        ("autostart", 1, "autostart must be true or false, is 1"),
        ("horizons", 1, "horizons must be a list of whole numbers, as in [0, 3], is 1"),
        ("horizons", [0, -1], "entries of horizons must lie from 0 to 99, one is -1"),
        ("horizons", [0, True], "entries of horizons must be a whole number, one is true"),
        ("outputs", "preview", "outputs must be a list of names, as in [a, b], is 'preview'"),
        ("outputs", ["preview", 1], "entries of outputs must be text, one is 1"),
    ],
)
def test_refused(name: str, value: object, expected: str) -> None:
    fault = complaint(TABLE[name], value)
    assert fault == expected
    with pytest.raises(Re2pixError) as raised:
        NodeSettings.of({name: value})
    assert str(raised.value) == expected


def test_unknown_entries_of_a_list_are_named() -> None:
    fault = complaint(TABLE["outputs"], ["preview", "masks"])
    assert fault is not None
    assert fault.startswith("entries of outputs must be one of segmentation, confidence")
    assert fault.endswith("one is 'masks'")


def test_settings_have_the_types_they_say() -> None:
    settings = NodeSettings.of({"max_rate": 10, "horizons": [3, 0, 3], "outputs": ["preview"], "unknown": 1})
    assert isinstance(settings.max_rate, float)
    assert settings.max_rate == 10
    assert settings.horizons == (3, 0)
    assert settings.outputs == ("preview",)


def test_ranges_and_choices_are_of_the_right_kind() -> None:
    for parameter in parameters():
        if parameter.kind in (Kind.INT, Kind.DOUBLE, Kind.INTS):
            assert parameter.low is not None
        if parameter.choices:
            assert parameter.kind in (Kind.STRING, Kind.STRINGS)


def test_the_page_is_not_stale() -> None:
    stored = (ROOT / "docs/parameters.md").read_text()
    assert stored == page(), "run: python -m re2pix_node.ros.parameters > docs/parameters.md"


def test_the_page_has_every_parameter_and_is_what_the_module_prints() -> None:
    command = [sys.executable, "-m", "re2pix_node.ros.parameters"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert printed == page()
    for parameter in parameters():
        row = next(line for line in printed.splitlines() if line.startswith(f"| `{parameter.name}` |"))
        assert parameter.allowed in row
        assert parameter.when.value in row
        assert row.replace("\\|", "").count("|") == 7
