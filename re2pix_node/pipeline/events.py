"""What happens while frames become forecasts. Whoever sees it tells it; logs and diagnostics are made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from re2pix_node.pipeline.buffer import Arrival


@dataclass(frozen=True)
class Configuring:
    """A bundle is being loaded: what was told before says nothing of it."""


@dataclass(frozen=True)
class StateEntered:
    """Of the life cycle."""

    state: str


@dataclass(frozen=True)
class TransitionRefused:
    """There will be no forecasts."""

    why: str


@dataclass(frozen=True)
class EngineServes:
    """An engine is at work from now on."""

    title: str
    first_choice: bool
    instead: bool = True  # of another one


@dataclass(frozen=True)
class EngineReleased:
    """No engine is at work any more."""


@dataclass(frozen=True)
class EngineFailed:
    """The engine at work has failed; another one is being loaded."""

    fault: str


@dataclass(frozen=True)
class EngineRejected:
    """A better engine could not serve its first frame; the one at work stays."""

    title: str
    fault: str


@dataclass(frozen=True)
class EngineLost:
    """No engine is left."""

    why: str


@dataclass(frozen=True)
class EnginesTold:
    """Which engines were passed over, and how far a better one is."""

    passed_over: tuple[str, ...]
    building: str


@dataclass(frozen=True)
class Counted:
    """Something that diagnostics count by this name."""

    what: str


@dataclass(frozen=True)
class FrameReceived:
    age: float  # s after its stamp


@dataclass(frozen=True)
class FrameFailed:
    """A frame leads to no forecast, and should have."""

    kind: str  # of the fault; each kind has log lines of its own
    message: str


@dataclass(frozen=True)
class StagesTook:
    """Seconds that each stage of a frame took."""

    seconds: Mapping[str, float]


@dataclass(frozen=True)
class StampBroke:
    """A stamp did not follow in order on the one before."""

    stamp: int  # ns
    arrival: Arrival


@dataclass(frozen=True)
class FramesChanged:
    """Frames have another size or encoding from now on."""

    before: str
    after: str


@dataclass(frozen=True)
class SkillMeasured:
    values: Sequence[float]  # by horizon, the first of which is now


@dataclass(frozen=True)
class Doubt:
    """Something is odd, and forecasts go on."""

    message: str
    again: bool = True  # whether every case is told, or only one in a while


@dataclass(frozen=True)
class RendererTold:
    """What draws pictures, or why nothing does."""

    text: str
    draws: bool = False  # from now on


@dataclass(frozen=True)
class PictureFailed:
    """Pictures are lost."""

    message: str
    seconds: float  # to warn of it


@dataclass(frozen=True)
class DrawingEnded:
    """Nothing draws any more."""


Event = (
    Configuring
    | StateEntered
    | TransitionRefused
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
