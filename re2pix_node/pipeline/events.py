"""Events while frames become forecasts. The code that notices one emits it; log and diagnostics use it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from re2pix_node.pipeline.buffer import Arrival


@dataclass(frozen=True)
class Configuring:
    """A bundle is being loaded: earlier events do not concern it."""


@dataclass(frozen=True)
class StateEntered:
    """The node has entered a state of the life cycle."""

    state: str


@dataclass(frozen=True)
class TransitionRefused:
    """A transition was refused: there will be no forecasts."""

    why: str


@dataclass(frozen=True)
class InputRefused:
    """A request or a message from outside, other than a frame, was wrong and had no effect."""

    source: str  # topic or service; each has its own log lines
    why: str


@dataclass(frozen=True)
class EngineServes:
    """An engine serves from now on."""

    title: str
    first_choice: bool
    instead: bool = True  # whether it replaces another engine


@dataclass(frozen=True)
class EngineReleased:
    """No engine serves any more."""


@dataclass(frozen=True)
class EngineFailed:
    """The engine in use has failed; another one is being loaded."""

    fault: str


@dataclass(frozen=True)
class EngineRejected:
    """A better engine could not serve its first frame; the one in use stays."""

    title: str
    fault: str


@dataclass(frozen=True)
class EngineLost:
    """No engine is left."""

    why: str


@dataclass(frozen=True)
class EnginesTold:
    """The engines that were passed over, and the progress of a better one."""

    passed_over: tuple[str, ...]
    building: str


@dataclass(frozen=True)
class Counted:
    """An event that diagnostics count under this name."""

    what: str


@dataclass(frozen=True)
class FrameReceived:
    age: float  # age of the frame, s


@dataclass(frozen=True)
class FrameFailed:
    """A frame leads to no forecast because of a fault."""

    kind: str  # kind of the fault; each kind has its own log lines
    message: str


@dataclass(frozen=True)
class StagesTook:
    """The seconds of each stage of a frame."""

    seconds: Mapping[str, float]


@dataclass(frozen=True)
class StampBroke:
    """A stamp did not follow the previous one in order."""

    stamp: int  # ns
    arrival: Arrival


@dataclass(frozen=True)
class FramesChanged:
    """Frames have a new size or encoding from now on."""

    before: str
    after: str


@dataclass(frozen=True)
class SkillMeasured:
    values: Sequence[float]  # by horizon; the first is now


@dataclass(frozen=True)
class Doubt:
    """Something is wrong, but forecasts continue."""

    message: str


@dataclass(frozen=True)
class RendererTold:
    """The renderer, or the reason why there is none."""

    text: str
    draws: bool = False  # from now on


@dataclass(frozen=True)
class PictureFailed:
    """Pictures are lost."""

    message: str
    seconds: float  # how long to warn of it


@dataclass(frozen=True)
class DrawingEnded:
    """Nothing draws any more."""


Event = (
    Configuring
    | StateEntered
    | TransitionRefused
    | InputRefused
    | EngineServes
    | EngineReleased
    | EngineFailed
    | EngineRejected
    | EngineLost
    | EnginesTold
    | Counted
    | FrameReceived
    | FrameFailed
    | StagesTook
    | StampBroke
    | FramesChanged
    | SkillMeasured
    | Doubt
    | RendererTold
    | PictureFailed
    | DrawingEnded
)
