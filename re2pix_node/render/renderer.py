"""Loads, proves and runs a bundle's render graph. It always runs on the CPU, whatever engine forecasts use."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re2pix_node.bundle.reader import Bundle, render_signature
from re2pix_node.common.wording import one_line
from re2pix_node.engines.base import Arrays, Graph, Runtime, load_checked
from re2pix_node.engines.registry import runtimes
from re2pix_node.engines.trial import try_apart
from re2pix_node.errors import BundleError, EngineError, NotFiniteError

NOISE_STREAM = 1  # a stream of random numbers besides that of stochastic forecasters


@dataclass(frozen=True)
class PictureScene:
    """All inputs of one picture."""

    features: NDArray[Any]  # [h, w, C] of the horizon
    frame: NDArray[np.uint8]  # [H, W, 3]: the newest picture as the encoder took it
    context: tuple[NDArray[Any], ...]  # each [1, h, w, C + carried], oldest first
    horizon: int  # k of h<k>, from 1 on
    seed: tuple[int, int]  # the pipeline's seed and the stamp, which determine the noise


@dataclass(frozen=True)
class RenderAttempt:
    """The result of trying the render graph in one runtime at one precision."""

    name: str  # "openvino bf16"
    psnr: float | None = None  # dB, its picture against that of the proof
    graph: Graph | None = None  # if it passed
    fault: str = ""

    def __str__(self) -> str:
        figure = "" if self.psnr is None else f" (PSNR {self.psnr:.1f} dB)"
        return f"{self.name}: {self.fault or 'proved'}{figure}"


class PictureRenderer:
    """A bundle's render graph, loaded and proved."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """BundleError if there is none; EngineError with all reasons if no runtime can draw with it."""
        passed_over = []
        for attempt in attempts(bundle, threads):
            if attempt.graph:
                self.name, self._graph = attempt.name, attempt.graph
                self._noise = self._graph.signature.inputs["noise"].shape
                return
            passed_over.append(str(attempt))
        raise EngineError(f"no engine can draw the pictures of {bundle.path}: {'; '.join(passed_over)}")

    def draw(self, scene: PictureScene) -> NDArray[np.uint8]:
        """The picture, [H, W, 3] RGB. EngineError if the graph fails; NotFiniteError for NaN or infinity in it."""
        rng = np.random.default_rng((*scene.seed, NOISE_STREAM))
        inputs = {
            "features": scene.features[None],
            "frame": scene.frame[None],
            "horizon": np.array([scene.horizon - 1], np.float32),
            "noise": rng.standard_normal(self._noise, np.float32),
            **{f"context_{i}": features for i, features in enumerate(scene.context)},
        }
        image = _drawn(self._graph, self.name, inputs)
        if not np.isfinite(image).all():
            raise NotFiniteError(f"{self.name}: render gave a picture with NaN or infinity: it is skipped")
        return _picture(image)


def attempts(bundle: Bundle, threads: int = 0) -> Iterator[RenderAttempt]:
    """The render graph in every runtime that works in host memory, the fastest first, each loaded and proved.

    `threads` = 0 uses every core that this process may use. A fault of the bundle itself is raised.
    """
    if bundle.manifest.render is None:
        raise BundleError(
            f"{bundle.path}: has no graph that draws pictures: export it from a run with a trained renderer"
        )
    for runtime in runtimes():
        if runtime.load_graph is None:
            continue
        try:
            precisions = runtime.precisions()
        except Exception as error:  # not installed, or broken in any way
            yield RenderAttempt(runtime.name, fault=one_line(error))
            continue
        for precision in precisions:
            yield attempt_to_draw(runtime, bundle, precision, threads or len(os.sched_getaffinity(0)))


def attempt_to_draw(runtime: Runtime, bundle: Bundle, precision: str, threads: int) -> RenderAttempt:
    """Load and prove the render graph in one runtime."""
    assert runtime.load_graph is not None
    assert bundle.manifest.render is not None
    name, load_graph, bound = f"{runtime.name} {precision}", runtime.load_graph, bundle.manifest.render.psnr
    expected, proof = render_signature(bundle.manifest), bundle.proof()
    try:
        try_apart(runtime, bundle, precision, threads, attempt_to_draw)
        graph = load_checked(name, bundle, "render", expected, lambda data: load_graph(data, precision, threads))
        image = _drawn(graph, name, _proof_inputs(bundle, proof))
    except EngineError as error:
        return RenderAttempt(name, fault=str(error).removeprefix(f"{name}: "))
    if not np.isfinite(image).all():
        return RenderAttempt(name, fault="its picture of the proof is not finite")
    psnr = _psnr(_picture(image), proof["render.image"][0])
    if not psnr >= bound:
        return RenderAttempt(name, psnr, fault=f"its picture is not that of the proof, {bound:g} dB are needed")
    return RenderAttempt(name, psnr, graph)


def _proof_inputs(bundle: Bundle, proof: Mapping[str, NDArray[Any]]) -> Arrays:
    """The last horizon of the proof's forecast."""
    return {
        "features": proof["forecast.features"][:1, -1]
        if bundle.manifest.proof.every == 1
        else proof["render.features"],
        "frame": proof["encode.frame"],
        "horizon": np.array([len(bundle.manifest.time.horizons) - 1], np.float32),
        "noise": proof["render.noise"],
        **{f"context_{i}": proof[f"forecast.context_{i}"] for i in range(bundle.manifest.time.context)},
    }


def _drawn(graph: Graph, name: str, inputs: Arrays) -> NDArray[Any]:
    try:
        image: NDArray[Any] = graph.run(inputs)["image"][0]
    except Exception as error:  # each runtime has its own kinds of errors
        raise EngineError(f"{name}: render failed: {one_line(error)}") from error
    return image


def _picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _psnr(picture: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    error = float(np.mean((picture.astype(np.float64) - reference) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf
