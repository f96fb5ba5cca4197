"""The pipeline of a live camera: it survives the loss of an engine and measures its skill. Knows no ROS."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.manifest import NANOSECONDS
from re2pix_node.common.wording import one_line
from re2pix_node.engines.session import EngineSession, engine_title
from re2pix_node.pipeline.buffer import Arrival
from re2pix_node.pipeline.events import EngineFailed, EngineRejected, EngineServes, Event, SkillMeasured
from re2pix_node.pipeline.pipeline import NoForecast, Observation, Pipeline, timing_of
from re2pix_node.pipeline.skill import LiveSkill


class LivePipeline:
    """Call `observe` for each frame, then `judge`, and `recover` after an engine's failure. For one thread."""

    def __init__(
        self, session: EngineSession, fit: str | None, skill_window: float, tell: Callable[[Event], None]
    ) -> None:
        """`skill_window`: seconds of the past over which skill is measured. `tell` gets events of engines and skill."""
        self.session = session
        self._tell = tell
        self._pipeline = Pipeline(session.bundle, session.engine, fit)
        spec = session.bundle.manifest.time
        self._skill = LiveSkill(len(spec.horizons), round(skill_window * NANOSECONDS), timing_of(spec).jitter)
        self._shape: tuple[int, ...] = ()

    def skill(self) -> list[float]:
        """Skill by horizon; the first is now; NaN where it is not measured."""
        return self._skill.values()

    def observe(self, frame: NDArray[np.uint8], stamp: int, seed: int, forecasts: bool = True) -> Observation:
        """As `Pipeline.observe`. If there is a better engine, it is used after it has served this frame."""
        if frame.shape != self._shape:  # features of differently cropped frames do not match
            self._shape = frame.shape
            self._skill.forget()
        self._pipeline.seed = seed
        observation = self._observe(frame, stamp, forecasts)
        if observation.arrival not in (Arrival.IN_ORDER, Arrival.REPEATED):
            self._skill.forget()
        return observation

    def judge(self, observation: Observation) -> None:
        """Score the forecasts that were made for this moment, and keep the new one."""
        forecast = observation.forecast
        if observation.features is not None:
            self._skill.observe(observation.stamp, observation.features)
        if forecast is not None:
            self._skill.predict(forecast.stamp, forecast.predicted_stamps[1:], forecast.features[0], forecast.observed)
        self._tell(SkillMeasured(self._skill.values()))

    def recover(self, fault: str) -> None:
        """Start again with the next engine after one has failed. Raises if there is none."""
        self._tell(EngineFailed(fault))
        self._pipeline.use(self.session.replace(fault))
        self._skill.forget()
        self._tell_engine()

    def _observe(self, frame: NDArray[np.uint8], stamp: int, forecasts: bool) -> Observation:
        candidate = self.session.candidate() if forecasts else None
        if candidate is None:
            return self._pipeline.observe(frame, stamp, forecasts)
        try:
            observation = self._pipeline.observe_with(candidate, frame, stamp)
        except Exception as error:  # any error must cost only that engine
            # If the engine in use fails on this frame too, the frame proves nothing: the next one decides.
            observation = self._pipeline.observe(frame, stamp)
            self.session.reject(one_line(error))
            self._tell(EngineRejected(engine_title(candidate), one_line(error)))
            return observation
        if observation.missing is not NoForecast.REPEATED:
            self.session.adopt()
            self._tell_engine()
        return observation

    def _tell_engine(self) -> None:
        self._tell(EngineServes(engine_title(self.session.engine), self.session.first_choice))
