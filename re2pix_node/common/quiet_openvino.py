"""The only place that imports OpenVINO, so that it tells nobody.

Its package sends an event to an analytics host when it is imported, from a process of its own, and writes an id into
the home folder. If the package openvino_telemetry is absent, it uses a stub of its own, which sends nothing. pip
installs that package with openvino; here it counts as absent. Standard library only, because re2pix doctor needs it.
"""

import sys
from typing import Any


def import_openvino() -> Any:
    """The module openvino; ImportError if it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
