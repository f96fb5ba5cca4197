"""The outputs that a forecast has at each horizon, one row for each.

Topics, the node's parameter `outputs`, replay's bags, the preview and the README's table follow from these rows. If a
forecast graph gives more than features, labels and confidence, its manifest names that; a row of the same name, with
`optional`, publishes it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import Manifest
from re2pix_node.bundle.reader import Bundle
from re2pix_node.pipeline.messages import MessageTypes, feature_map_message, header_message, mask_message
from re2pix_node.pipeline.pipeline import Forecast

IMAGE = "image"  # the row that the renderer draws


@dataclass(frozen=True)
class OutputRow:
    """One output."""

    name: str  # its topics are ~/output/h<k>/<name>
    type: str  # of the message, as in sensor_msgs/Image
    format: str  # for people: the encoding, if the type leaves it open
    text: str  # for people: the content
    # The message of one horizon. Of several samples the first is published. None: the renderer draws it.
    build: Callable[[MessageTypes, Bundle, Forecast, int, str], Any] | None  # ..., k of h<k>, frame_id
    recorded: bool = True  # replay writes it if no outputs are named
    optional: bool = False  # only bundles whose manifest names it have it
    show: Callable[[NDArray[Any]], NDArray[np.uint8]] | None = None  # a panel of the preview, RGB, from its array

    def is_given_by(self, manifest: Manifest) -> bool:
        """Return True if forecasts of such a bundle have it."""
        if self.name == IMAGE:
            return manifest.render is not None
        return not self.optional or any(output.name == self.name for output in manifest.outputs)


def _segmentation(types: MessageTypes, _: Bundle, forecast: Forecast, k: int, frame_id: str) -> Any:
    return mask_message(types, forecast.labels[0, k], header_message(types, forecast.stamp, frame_id))


def _confidence(types: MessageTypes, _: Bundle, forecast: Forecast, k: int, frame_id: str) -> Any:
    return mask_message(types, forecast.confidence[0, k], header_message(types, forecast.stamp, frame_id))


# fmt: off
_ROWS: dict[str, OutputRow] = {row.name: row for row in (
    OutputRow("segmentation", "sensor_msgs/Image", "mono8",
        "class ids at horizon k; h0 is the frame itself", _segmentation),
    OutputRow("confidence", "sensor_msgs/Image", "mono8",
        "confidence of each class id, 0 to 255", _confidence),
    OutputRow("features", "re2pix_msgs/FeatureMap", "",
        "features at horizon k, half precision", feature_map_message, recorded=False),
    OutputRow(IMAGE, "sensor_msgs/Image", "rgb8",
        "a picture of that moment, drawn from the forecast; k from 1, when `render_rate` is above 0 "
        "([docs/renderer.md](docs/renderer.md))", None, recorded=False),
)}
# fmt: on


def register(row: OutputRow) -> None:
    """Add a row from outside this package."""
    if row.name in _ROWS:
        raise ValueError(f"there is an output '{row.name}' already")
    _ROWS[row.name] = row


def rows() -> tuple[OutputRow, ...]:
    return tuple(_ROWS.values())


def published_kinds() -> tuple[str, ...]:
    """The outputs that a user may choose: those that come with a forecast."""
    return tuple(row.name for row in _ROWS.values() if row.build)


def recorded_kinds(manifest: Manifest) -> tuple[str, ...]:
    """The outputs of such a bundle that replay writes if none are named."""
    return tuple(row.name for row in _ROWS.values() if row.recorded and row.is_given_by(manifest))


def message_type(kind: str) -> str:
    """The type of an output's messages, as in sensor_msgs/Image."""
    return _ROWS[kind].type


def output_names(bundle: Bundle, kinds: Sequence[str] | None = None) -> list[str]:
    """Names of the outputs of such a bundle, as their topics end: h0/segmentation and so on."""
    given = [row.name for row in _ROWS.values() if row.build and row.is_given_by(bundle.manifest)]
    moments = range(len(bundle.manifest.time.horizons) + 1)
    return [f"h{k}/{kind}" for kind in given if kinds is None or kind in kinds for k in moments]


def output_messages(
    types: MessageTypes, bundle: Bundle, forecast: Forecast, names: Sequence[str], frame_id: str
) -> Iterator[tuple[str, Any]]:
    """Yield the named outputs of a forecast, one at a time."""
    for name in names:
        moment, kind = name.split("/")
        build = _ROWS[kind].build
        assert build is not None
        yield name, build(types, bundle, forecast, int(moment.removeprefix("h")), frame_id)


def panels(forecast: Forecast, caption: Callable[[int], str]) -> list[tuple[str, NDArray[np.uint8]]]:
    """The preview's panels of optional outputs with captions; `caption` describes a horizon in ns."""
    return [
        (f"{row.name}, {caption(horizon)}", row.show(forecast.optional[row.name][0, k]))
        for row in _ROWS.values()
        if row.show and row.name in forecast.optional
        for k, horizon in enumerate(forecast.horizons)
    ]


def readme_lines() -> list[str]:
    """The rows of the README's table of topics."""
    return [
        f"| `~/output/h<k>/{row.name}` | {f'{row.type} {row.format}'.rstrip()} | {row.text} |" for row in _ROWS.values()
    ]
