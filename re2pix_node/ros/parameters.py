"""The table of the node's parameters. Declarations, checks and docs/parameters.md all follow from it.

`python -m re2pix_node.ros.parameters` prints that page.
"""

import array
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from re2pix_node.bundle.locate import DEFAULT_BUNDLE
from re2pix_node.common.limits import PIXELS
from re2pix_node.engines.registry import PRECISIONS, engine_names
from re2pix_node.errors import Re2pixError
from re2pix_node.imaging.geometry import FITS
from re2pix_node.pipeline.outputs import published_kinds

TRANSPORTS = ("raw", "compressed")
VIEWS = ("preview", "camera_info")  # outputs that belong to no horizon


class When(enum.Enum):
    """When a parameter may change."""

    LIVE = "at any time"
    CONFIGURE = "while unconfigured"
    START = "at start"


class Kind(enum.Enum):
    """The type of a parameter, with its ROS 2 name."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    INTS = "int[]"
    STRINGS = "string[]"

    @property
    def entries(self) -> "Kind | None":
        """The type of a list's entries; None for a single value."""
        return {Kind.INTS: Kind.INT, Kind.STRINGS: Kind.STRING}.get(self)

    @property
    def noun(self) -> str:
        """A description of the required type, for messages."""
        return _NOUNS[self]


_NOUNS = {
    Kind.BOOL: "true or false",
    Kind.INT: "a whole number",
    Kind.DOUBLE: "a number",
    Kind.STRING: "text",
    Kind.INTS: "a list of whole numbers, as in [0, 3]",
    Kind.STRINGS: "a list of names, as in [a, b]",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter. Range and choices hold for every entry of a list. Text without choices must not be empty."""

    name: str
    kind: Kind
    default: Any
    when: When
    low: float | None = None
    high: float = math.inf
    choices: tuple[str, ...] = ()
    description: str = ""

    @property
    def allowed(self) -> str:
        """The range or the choices in words; empty if any value of the type is allowed."""
        if self.choices:
            return "one of " + ", ".join(choice or "'' (empty)" for choice in self.choices)
        return f"from {self.low} to {self.high}" if self.low is not None else ""


# fmt: off
# The facts of a parameter are in one line, its description in the next.
def parameters() -> tuple[Parameter, ...]:
    """The table, with the engines and outputs that are registered at this moment."""
    outputs = (*published_kinds(), *VIEWS)
    return (
        Parameter("bundle", Kind.STRING, DEFAULT_BUNDLE, When.CONFIGURE,
            description="Folder of the model bundle, or the name of one that ships."),
        Parameter("engine", Kind.STRING, "auto", When.CONFIGURE, choices=engine_names(),
            description="Engine that runs the model; auto: the first in a fixed order that reproduces the proof."),
        Parameter("precision", Kind.STRING, "auto", When.CONFIGURE, choices=PRECISIONS,
            description="Number format of the engine; auto: the first in a fixed order that reproduces the proof."),
        Parameter("threads", Kind.INT, 0, When.CONFIGURE, low=0, high=256,
            description="Threads of the engine; 0 uses every core that the process may use."),
        Parameter("fit", Kind.STRING, "", When.CONFIGURE, choices=("", *FITS),
            description="How frames are fitted to the model's size; empty: the bundle decides."),
        Parameter("image_transport", Kind.STRING, "raw", When.CONFIGURE, choices=TRANSPORTS,
            description="Type of ~/input/image: sensor_msgs/Image or sensor_msgs/CompressedImage."),
        Parameter("horizons", Kind.INTS, (), When.CONFIGURE, low=0, high=99,
            description="Horizons to publish: k means the topics ~/output/h<k>, 0 is now; empty: all."),
        Parameter("outputs", Kind.STRINGS, outputs, When.CONFIGURE, choices=outputs,
            description="Outputs that get topics. Outputs without subscribers are never computed."),
        Parameter("skill_window", Kind.DOUBLE, 10.0, When.CONFIGURE, low=1, high=600,
            description="Length of the past, in seconds, over which the live skill is measured."),
        Parameter("autostart", Kind.BOOL, True, When.START,
            description="Configure and activate at start, without a command."),
        Parameter("max_rate", Kind.DOUBLE, 0.0, When.LIVE, low=0, high=1000,
            description="Maximum rate of frames by their stamps, in Hz; 0 takes every frame."),
        Parameter("max_age", Kind.DOUBLE, 0.0, When.LIVE, low=0, high=3600,
            description="Maximum age of a frame in seconds, by the node's clock; older frames are dropped; "
            "0 drops none."),
        Parameter("max_pixels", Kind.INT, PIXELS.default, When.LIVE, low=1, high=2**30,
            description="Maximum size of a frame in pixels, read from its header; larger frames are not decoded."),
        Parameter("seed", Kind.INT, 0, When.LIVE, low=0, high=2**31 - 1,
            description="Seed of the random numbers of stochastic forecasters and of pictures."),
        Parameter("preview_rate", Kind.DOUBLE, 5.0, When.LIVE, low=0, high=60,
            description="Maximum rate of previews, in Hz; 0 publishes none."),
        Parameter("render_rate", Kind.DOUBLE, 0.0, When.LIVE, low=0, high=60,
            description="Maximum rate of forecasts drawn as pictures, by their stamps, in Hz; 0 draws none. "
            "Only horizons whose ~/output/h<k>/image has a subscriber are drawn, and only if the bundle has a "
            "renderer."),
    )
# fmt: on


@dataclass(frozen=True)
class NodeSettings:
    """A value for every parameter, of the right type and allowed."""

    bundle: str
    engine: str
    precision: str
    threads: int
    fit: str
    image_transport: str
    horizons: tuple[int, ...]
    outputs: tuple[str, ...]
    skill_window: float
    autostart: bool
    max_rate: float
    max_age: float
    max_pixels: int
    seed: int
    preview_rate: float
    render_rate: float

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "NodeSettings":
        """Settings from the given values and defaults for the rest. The first value that is not allowed is an error."""
        given = {parameter.name: values.get(parameter.name, parameter.default) for parameter in parameters()}
        for parameter in parameters():
            if fault := complaint(parameter, given[parameter.name]):
                raise Re2pixError(fault)
        return cls(**{parameter.name: _coerced(parameter.kind, given[parameter.name]) for parameter in parameters()})


def complaint(parameter: Parameter, value: Any) -> str | None:
    """Why the value is refused, in one line; None when it is allowed."""
    name, kind = parameter.name, parameter.kind
    if kind.entries is None:
        entries, subject, verb = [value], name, "is"
    elif isinstance(value, list | tuple | array.array):
        entries, subject, verb = list(value), f"entries of {name}", "one is"
    else:
        return f"{name} must be {kind.noun}, is {_shown(value)}"
    for entry in entries:
        if fault := _fault(parameter, kind.entries or kind, entry):
            return f"{subject} must {fault}, {verb} {_shown(entry)}"
    return None


def _fault(parameter: Parameter, kind: Kind, value: Any) -> str | None:
    if not _is(kind, value):
        return f"be {kind.noun}"
    if parameter.choices and value not in parameter.choices:
        return f"be {parameter.allowed}"
    if kind is Kind.STRING and not parameter.choices and not value:
        return "not be empty"
    if parameter.low is not None and not parameter.low <= value <= parameter.high:
        return f"lie {parameter.allowed}"
    return None


def _is(kind: Kind, value: Any) -> bool:
    if isinstance(value, bool):  # in Python a bool is also an int
        return kind is Kind.BOOL
    if kind is Kind.DOUBLE:
        return isinstance(value, int | float)  # users write max_rate:=10
    return isinstance(value, {Kind.INT: int, Kind.STRING: str}.get(kind, ()))


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, array.array):
        value = list(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _coerced(kind: Kind, value: Any) -> Any:
    if kind.entries is not None:
        return tuple(dict.fromkeys(value))  # each entry once
    return float(value) if kind is Kind.DOUBLE else value


def page() -> str:
    """docs/parameters.md."""
    rows = [
        "| name | type | default | allowed | may change | what |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{p.name}` | {p.kind.value} | `{_yaml(p.default)}` | {p.allowed} | {p.when.value} | {_markdown(p)} |"
            for p in parameters()
        ),
    ]
    return _PAGE.format(table="\n".join(rows), live=When.LIVE.value, unconfigured=When.CONFIGURE.value)


def _markdown(parameter: Parameter) -> str:
    return parameter.description.replace("<", "\\<")  # h<k> is not HTML


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value) or "''"


_PAGE = """\
# Parameters

*Generated from re2pix_node/ros/parameters.py by `python -m re2pix_node.ros.parameters > docs/parameters.md`.*

{table}

The node refuses a value that is not allowed and gives the reason. At start it then ends with exit code 2; later it
keeps the old value. If several values are set at once (`set_parameters_atomically`), one bad value refuses all.

## Setting them

At start, on the command line:

```
ros2 run re2pix_node re2pix_node --ros-args -p bundle:=models/mine -p max_rate:=10 -p "outputs:=[segmentation]"
```

or in a file, given with `--ros-args --params-file my.yaml`; `/**` stands for any node name and namespace:

```yaml
/**:
  ros__parameters:
    engine: onnxruntime
    horizons: [0, 3]
    max_age: 0.2
```

Parameters that may change {live} take effect with the next frame:

```
ros2 param set /re2pix_node max_rate 5.0
```

Parameters that may change {unconfigured} are read when the node is configured:

```
ros2 lifecycle set /re2pix_node deactivate
ros2 lifecycle set /re2pix_node cleanup
ros2 param set /re2pix_node fit pad
ros2 lifecycle set /re2pix_node configure
ros2 lifecycle set /re2pix_node activate
```

## Quality of service

Each topic has its own QoS parameters. They can be set only at start. Their names consist of the full name of the topic
after remapping, then `subscription` or `publisher`, then the policy (`reliability`, `history` or `depth`):

```yaml
/**:
  ros__parameters:
    qos_overrides:
      /camera/image:
        subscription:
          reliability: reliable   # or best_effort
          depth: 5
```

`ros2 param list /re2pix_node` lists them. A camera that offers only best effort never reaches a subscription
that requires reliable; the log then says so and names both sides.
"""


if __name__ == "__main__":
    print(page(), end="")
