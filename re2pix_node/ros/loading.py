"""Loads a model in its own thread, so that signals and diagnostics continue to work."""

import threading
from concurrent.futures import Future, wait

from re2pix_node.bundle.locate import bundle_folder
from re2pix_node.bundle.reader import read_bundle
from re2pix_node.engines.session import EngineSession
from re2pix_node.errors import Re2pixError
from re2pix_node.ros.parameters import NodeSettings


class ModelLoading:
    """A bundle that is being read, and its engine."""

    def __init__(self, settings: NodeSettings) -> None:
        self.session: EngineSession | None = None  # as soon as the bundle has been read
        self._settings = settings
        self._closed = threading.Event()
        self._future: Future[EngineSession] = Future()
        threading.Thread(target=self._run, name="re2pix loader", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return True if loading has ended, with or without success."""
        # Not by joining the thread: after an interrupted join Python treats the thread as ended (Python issue 45274).
        return bool(wait([self._future], seconds).done)

    def result(self) -> EngineSession:
        """The session with its engine; raises the error of the loading."""
        return self._future.result()

    def close(self) -> None:
        """Stop builds for this model, now and later."""
        self._closed.set()
        if self.session:
            self.session.close()

    def _run(self) -> None:
        try:
            self._future.set_result(self._load())
        except Exception as error:
            self._future.set_exception(error)

    def _load(self) -> EngineSession:
        settings = self._settings
        if not settings.bundle:
            raise Re2pixError(
                "the parameter 'bundle' is empty: give the folder of a bundle, as in -p bundle:=models/NAME"
            )
        bundle = read_bundle(bundle_folder(settings.bundle))
        self.session = EngineSession(bundle, settings.engine, settings.precision, settings.threads, background=True)
        if self._closed.is_set():
            raise Re2pixError("loading was cancelled")
        self.session.start()
        if self._closed.is_set():
            self.session.close()
        return self.session
